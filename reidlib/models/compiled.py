"""Kernels of networks that numba compiles, see `reidlib.neighbors.kernels`."""

from __future__ import annotations

from reidlib.neighbors.kernels import kernel


@kernel
def weight_gradient(
    start, stop, maps, upstream, step_y, step_x, above, before, gradient
):
    """Add up the gradient of some rows of a depthwise kernel.

    Args:
        start: First row of the kernel.
        stop: Row after the last one.
        maps: ``(B, H, W, C)`` what was convolved.
        upstream: ``(B, h, w, C)`` gradient of what came out.
        step_y: Stride.
        step_x: Stride.
        above: Padding.
        before: Padding.
        gradient: ``(K, L, C)`` what is added to.
    """
    num_images, height, width, channels = maps.shape
    num_cols = gradient.shape[1]
    for image in range(num_images):
        for y in range(upstream.shape[1]):
            top = y * step_y - above
            for x in range(upstream.shape[2]):
                left = x * step_x - before
                change = upstream[image, y, x]
                for i in range(max(start, -top), min(stop, height - top)):
                    for j in range(max(0, -left), min(num_cols, width - left)):
                        pixel, total = maps[image, top + i, left + j], gradient[i, j]
                        for c in range(channels):
                            total[c] += pixel[c] * change[c]
