"""Kernels of networks that numba compiles, see `reidlib.neighbors.kernels`."""

from __future__ import annotations

from reidlib.neighbors.kernels import kernel


@kernel
def weight_gradient(
    start, stop, maps, upstream, step_y, step_x, above, before, gradient
):
    """Add up the gradient of a depthwise kernel.

    Args:
        start: First channel.
        stop: Channel after the last one.
        maps: ``(B, H, W, C)`` what was convolved.
        upstream: ``(B, h, w, C)`` gradient of what came out.
        step_y: Stride.
        step_x: Stride.
        above: Padding.
        before: Padding.
        gradient: ``(K, L, C)`` what is added to.
    """
    num_images, height, width = maps.shape[:3]
    num_rows, num_cols = gradient.shape[:2]
    for image in range(num_images):
        for y in range(upstream.shape[1]):
            top = y * step_y - above
            for x in range(upstream.shape[2]):
                left = x * step_x - before
                for i in range(max(0, -top), min(num_rows, height - top)):
                    for j in range(max(0, -left), min(num_cols, width - left)):
                        # From 0 on: an index that may be negative is no vector.
                        pixel = maps[image, top + i, left + j, start:stop]
                        change = upstream[image, y, x, start:stop]
                        total = gradient[i, j, start:stop]
                        for c in range(stop - start):
                            total[c] += pixel[c] * change[c]
