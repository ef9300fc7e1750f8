"""Two data sets for domain adaptation: a labelled source and an unlabelled target."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import Any

from reidlib.data.table import DISTRACTOR, ReIDDataset
from reidlib.errors import ReIDError


@dataclass(frozen=True)
class AdaptationDataset(ReIDDataset):
    """An unlabelled target with a labelled source.

    The splits are those of the target: a recipe that does not adapt trains on the
    target alone.

    Attributes:
        source: The labelled data; only its training split is used. Equal ids in source
            and target do not mean the same person or camera.
    """

    source: ReIDDataset | None = None

    def fingerprint(self) -> str:
        """Return a hash over both data sets, as `ReIDDataset.fingerprint`."""
        digest = hashlib.sha256(super().fingerprint().encode())
        if self.source is not None:
            digest.update(self.source.fingerprint().encode())
        return digest.hexdigest()


def with_source(target: ReIDDataset, source: ReIDDataset) -> AdaptationDataset:
    """Add a labelled source to a target.

    Args:
        target: Data to adapt to, with its test split.
        source: Data whose training split has identities; cameras are optional.

    Returns:
        The target with its source.

    Raises:
        ReIDError: If the source lacks identities, shows fewer than two people, or is
            the target itself, under whatever names.
    """
    train = source.train
    if not train.has_identities or train.num_pids < 2:
        raise ReIDError(
            f"the source {source.name} ({source.root}) has {train.num_pids} known "
            f"people in {len(train)} training images, and adaptation needs two or "
            "more, with an identity for every image; choose another source, or train "
            "on the target alone"
        )
    if sorted(train.hashes()) == sorted(target.train.hashes()):
        raise ReIDError(
            f"source and target are the same data ({source.root}): its identities "
            "would be known; choose another source, or train the supervised recipe"
        )
    known = train.pids > DISTRACTOR
    if not known.all():
        source = dataclasses.replace(source, train=train[known])
    values: dict[str, Any] = {
        field.name: getattr(target, field.name)
        for field in dataclasses.fields(ReIDDataset)
    }
    return AdaptationDataset(**values, source=source)
