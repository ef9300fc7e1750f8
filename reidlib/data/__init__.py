"""Images with identities and cameras: tables, readers, tensors, batches."""

from typing import Any

from reidlib.data.adaptation import AdaptationDataset, with_source
from reidlib.data.attributes import MarketAttributes, read_market_attributes
from reidlib.data.check import Report, check_dataset, check_path, contact_sheet
from reidlib.data.images import (
    ImageSource,
    InMemoryImages,
    StreamedImages,
    open_images,
    read_image,
    unreadable_images,
)
from reidlib.data.readers import KINDS, detect_kind, image_files, open_dataset
from reidlib.data.samplers import PKSampler, sequential_batches
from reidlib.data.table import (
    DISTRACTOR,
    JUNK,
    NO_CAMERA,
    UNKNOWN,
    ImageTable,
    ReIDDataset,
)
from reidlib.data.transforms import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TestTransform,
    TrainTransform,
)

__all__ = [
    "DISTRACTOR",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "JUNK",
    "KINDS",
    "NO_CAMERA",
    "UNKNOWN",
    "AdaptationDataset",
    "ImageSource",
    "ImageTable",
    "InMemoryImages",
    "MarketAttributes",
    "PKSampler",
    "ReIDDataset",
    "Report",
    "StreamedImages",
    "TestTransform",
    "TrainTransform",
    "check_dataset",
    "check_path",
    "contact_sheet",
    "detect_kind",
    "image_files",
    "open_dataset",
    "open_images",
    "read_image",
    "read_market_attributes",
    "sequential_batches",
    "unreadable_images",
    "with_source",
]


def __getattr__(name: str) -> Any:
    # Scripts that were written before it moved import it from here.
    if name == "crop_people":
        from reidlib.deploy import crop_people

        return crop_people
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
