"""A trained network in three lines: load it, extract features, rank a gallery."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from reidlib.checks import check_count
from reidlib.data.images import ImageSource, Index, open_images, rgb_pixels
from reidlib.data.readers import image_files
from reidlib.data.table import ImageTable, unlabelled
from reidlib.engine.checkpoint import weights_hash
from reidlib.engine.run import open_fabric
from reidlib.errors import ReIDError
from reidlib.evaluation.ranking import nearest_features
from reidlib.paths import user_path
from reidlib.recipes.steps import extract, load_model
from reidlib.terminal import progress

PathLike: TypeAlias = "str | os.PathLike[str]"
Pictures: TypeAlias = (
    "PathLike | ImageTable | np.ndarray | Tensor | Image.Image | Sequence[Any]"
)


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network with what its images need; `load` makes one.

    Attributes:
        network: The network, in evaluation mode, on its device.
        config: The settings of its run.
        fingerprint: SHA-256 of its weights: features of two networks cannot be
            compared.
        device: Where it computes.
    """

    network: nn.Module
    config: Any
    fingerprint: str
    device: torch.device

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels that images are resized to."""
        return self.config.height, self.config.width

    def extract(self, images: Pictures, *, batch_size: int | None = None) -> Tensor:
        """Return the features of images of people, one person an image.

        Args:
            images: A folder (its image files in the order of `image_files`), an image
                file, an `ImageTable`, or a sequence of files, of Pillow images or of
                ``(H, W, 3)`` uint8 RGB arrays of any size; or one array of
                ``(N, H, W, 3)``. OpenCV's arrays are BGR: turn them round with
                ``array[..., ::-1]``.
            batch_size: Images at once; that of the run by default.

        Returns:
            ``(N, D)`` float32 L2-normalised features, on the CPU, computed in the
            precision of the run.

        Raises:
            ReIDError: If an image cannot be read, or there is none.
        """
        size = self.config.extract_batch if batch_size is None else batch_size
        size = check_count(size, "batch_size", "extract")
        source = _opened(images, self.size, self.device)
        if not len(source):
            raise ReIDError("extract: there are no images; give one or more")
        config = replace(self.config, extract_batch=size)
        return extract(self.network, _Watched(source, size), config)

    def rank(
        self, query: Pictures, gallery: Pictures, k: int | None = 10
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest gallery images of each query, by cosine distance.

        No protocol applies: images of one camera count. `reidlib.evaluation.evaluate`
        has the protocol of the papers.

        Args:
            query: Features ``(Q, D)`` of this network, or images as for `extract`.
            gallery: Features ``(G, D)`` of this network, or images.
            k: Images for each query, at most G; None for all.

        Returns:
            ``(Q, k)`` int64 rows of the gallery, nearest first, equal ones by row; and
            their float32 cosine distances, from 0 to 2.

        Raises:
            ReIDError: As `extract`; or if k is below 1.
        """
        others = self._features(gallery)
        count = len(others) if k is None else k
        return nearest_features(self._features(query), others, count)

    def _features(self, given: Pictures) -> np.ndarray | Tensor:
        if isinstance(given, np.ndarray | Tensor) and given.ndim <= 2:
            return given
        return self.extract(given)


def load(path: PathLike, *, device: str | torch.device = "auto") -> TrainedModel:
    """Load the trained network of a run.

    Args:
        path: A run's folder, or a checkpoint file in it.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or one GPU such as ``"cuda:1"``.

    Returns:
        The network, ready to extract features.

    Raises:
        ReIDError: If there is no such run or no such device.

    Example::

        reid = reidlib.load("runs/baseline-course-synthcity-s0-1")
        features = reid.extract("crops")
        index, distance = reid.rank(features[:1], features[1:])
    """
    where = open_fabric(str(device)).device
    network, config = load_model(user_path(path))
    fingerprint = weights_hash(network)
    return TrainedModel(network.to(where), config, fingerprint, where)


class _Watched:
    """An `ImageSource` that shows a bar while it is read, if that takes long."""

    def __init__(self, source: ImageSource, batch_size: int) -> None:
        self.source, self.size, self.device = source, source.size, source.device
        self.num_batches = -(-len(source) // batch_size)

    def __len__(self) -> int:
        return len(self.source)

    def batches(self, index_batches: Iterable[Index]) -> Iterator[Tensor]:
        """Yield the batches of the source."""
        batches = self.source.batches(index_batches)
        yield from progress(batches, "features", self.num_batches)


class _Arrays:
    """Images in memory as an `ImageSource`: each is resized when it is asked for."""

    def __init__(
        self,
        images: Sequence[Any] | np.ndarray,
        size: tuple[int, int],
        device: torch.device,
    ) -> None:
        self.images, self.size, self.device = images, size, device

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, index_batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield ``(B, 3, H, W)`` uint8 images for each batch of row numbers."""
        for index in index_batches:
            pixels = np.stack([self._resized(row) for row in index.tolist()])
            yield torch.from_numpy(pixels).permute(0, 3, 1, 2).to(self.device)

    def _resized(self, row: int) -> np.ndarray:
        image = self.images[row]
        if not isinstance(image, Image.Image):
            array = np.asarray(image)
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
                raise ReIDError(
                    f"extract: image {row} has shape {array.shape} and type "
                    f"{array.dtype}; give (H, W, 3) RGB arrays of uint8"
                )
            if not array.size:
                raise ReIDError(f"extract: image {row} has no pixels; leave it out")
            image = Image.fromarray(np.ascontiguousarray(array))
        try:
            return rgb_pixels(image, self.size)
        except (OSError, ReIDError) as error:
            raise ReIDError(f"extract: image {row} {error}") from error


def _opened(images: Pictures, size: tuple[int, int], device: torch.device) -> Any:
    """Return a source of images of what people have."""
    if isinstance(images, str | os.PathLike):
        path = user_path(images)
        images = image_files(path) if path.is_dir() else [path]
    if isinstance(images, Image.Image):
        images = [images]
    if isinstance(images, ImageTable):
        return open_images(images, size, device)
    if isinstance(images, Tensor):
        images = images.detach().cpu().numpy()
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or images.shape[3] != 3:
            raise ReIDError(
                f"extract: the images have shape {images.shape}; give (N, H, W, 3) RGB "
                "of uint8, or a list of images"
            )
        return _Arrays(images, size, device)
    if not isinstance(images, Iterable):
        raise ReIDError(
            f"extract: the images are {images!r}; give a folder, files, a table, "
            "arrays or Pillow images"
        )
    images = list(images)
    files = [isinstance(image, str | os.PathLike) for image in images]
    if any(files) and not all(files):
        raise ReIDError("extract: some images are files, some are not; give one kind")
    if not any(files):
        return _Arrays(images, size, device)
    table = unlabelled([user_path(image) for image in images])
    return open_images(table, size, device)
