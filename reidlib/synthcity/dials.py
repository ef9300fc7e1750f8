"""The dials: how difficult re-identification is in the synthetic city."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

from reidlib.errors import ReIDError


@dataclass(frozen=True)
class Dials:
    """The difficulty of a world, in eight numbers.

    The defaults were chosen in about ten trials on seed 0 with colour histograms, raw
    pixels and ImageNet features, so that the world behaves like Market-1501. No method
    of the course was trained to choose them.

    Attributes:
        camera_shift: 0 to 1. How far the cameras differ in colour, contrast,
            resolution, background and viewpoint. At 0 all cameras are alike and share
            all scenes.
        occlusion: 0 to 1. Share of images with an object in front of the person, or
            with another person close by.
        image_quality: 0 to 1. At 1 images are sharp and clean; lower values add noise,
            blur, low resolution and JPEG artefacts.
        identity_similarity: 0 to 1. At 0 clothes differ between people; at 1 nearly
            all people wear the same plain clothes.
        images_per_camera: 0.25 to 8. Multiplier on how many images of a person one
            camera takes; 1 gives the numbers of :data:`SIZES`.
        misalignment: 0 to 1. Error of the detector's boxes in position and scale.
        lighting: 0 to 1. How much the brightness and the colour of the light differ
            between tracks (walks past a camera).
        quality_spread: 0 to 1. How far the quality differs between images: each draws
            its own strength of degradation, from that of ``image_quality`` to, at 1,
            ruin. At 0 the images of a city are about equally good.

    Raises:
        ReIDError: If a value is not a number in its range.

    Example:
        >>> Dials(camera_shift=0.0).camera_shift
        0.0
    """

    camera_shift: float = 0.45
    occlusion: float = 0.2
    image_quality: float = 0.8
    identity_similarity: float = 0.1
    images_per_camera: float = 1.0
    misalignment: float = 0.6
    lighting: float = 0.25
    quality_spread: float = 0.0

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            low, high = (0.25, 8.0) if entry.name == "images_per_camera" else (0.0, 1.0)
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or not low <= value <= high:
                raise ReIDError(
                    f"dial {entry.name}={value!r}: give a number from {low:g} to "
                    f"{high:g}"
                )
            object.__setattr__(self, entry.name, float(value))

    def as_key(self) -> dict[str, float]:
        """Return what the pictures depend on, by name.

        A dial that was added later is left out at the default, which draws what was
        drawn without it: so cities of before keep their name and manifest.

        Example:
            >>> "quality_spread" in Dials().as_key()
            False
        """
        later = {"quality_spread": 0.0}
        return {
            name: value
            for name, value in asdict(self).items()
            if later.get(name) != value
        }
