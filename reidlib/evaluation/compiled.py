"""Kernels of the ranking that numba compiles, see `reidlib.neighbors.kernels`."""

from __future__ import annotations

from functools import partial

import numpy as np

from reidlib.neighbors.compiled import grown
from reidlib.neighbors.kernels import kernel

_CHUNK = 64  # numbers that are compared at once, before one is looked at
# Small counts in float32, which are exact in any order, fill a vector register as the
# compared numbers do; integers are widened to 64 bits.
_ONE, _NONE = np.float32(1), np.float32(0)


@kernel
def _range(distance, row_margin, col_margin):
    """Return what a distance is at least and at most, equal wherever it is asked."""
    margin = row_margin + col_margin
    return np.float32(distance - margin), np.float32(distance + margin)


@partial(kernel, fastmath={"reassoc", "nsz"})
def count_nearer(
    start, stop, distance, row_margin, col_margin, matches, num_matches, counts
):
    """Count the images that are no farther than each match of a query.

    Args:
        start: First query.
        stop: Query after the last one.
        distance: ``(B, G)`` float32, inf for what is left out.
        row_margin: ``(B,)`` float32.
        col_margin: ``(G,)`` float32; a distance is off by less than the two margins.
        matches: ``(B, M)`` exact distances of the matches, rising.
        num_matches: ``(B,)`` how many of them there are.
        counts: ``(B, M)`` what is added to.

    Returns:
        Queries and images of the pairs that are too near to a match to tell:
        `count_pairs` counts them for the matches in question.
    """
    rows, cols = np.empty(64, np.int64), np.empty(64, np.int64)
    unsure = 0
    least, most = np.empty(_CHUNK, np.float32), np.empty(_CHUNK, np.float32)
    for row in range(start, stop):
        last = matches[row, num_matches[row] - 1]
        for begin in range(0, distance.shape[1], _CHUNK):
            size = min(_CHUNK, distance.shape[1] - begin)
            found = _NONE
            for place in range(size):
                least[place], most[place] = _range(
                    distance[row, begin + place],
                    row_margin[row],
                    col_margin[begin + place],
                )
                found += _ONE if least[place] <= last else _NONE
            if found == 0:
                continue
            possible = sure = 0
            for match in range(num_matches[row]):
                limit = matches[row, match]
                inside = around = _NONE
                for place in range(size):
                    inside += _ONE if most[place] < limit else _NONE
                    around += _ONE if least[place] <= limit else _NONE
                counts[row, match] += int(inside)
                sure += int(inside)
                possible += int(around)
            if possible > sure:
                rows, cols = grown(rows, unsure + size), grown(cols, unsure + size)
                for place in range(size):
                    nearer = np.searchsorted(matches[row], least[place])
                    if nearer < num_matches[row] and (
                        matches[row, nearer] <= most[place]
                    ):
                        rows[unsure], cols[unsure] = row, begin + place
                        unsure += 1
    return rows[:unsure].copy(), cols[:unsure].copy()


@kernel
def count_pairs(
    rows, cols, exact, distance, row_margin, col_margin, matches, num_matches, counts
):
    """Count pairs by their exact distances where `count_nearer` could not tell."""
    for pair in range(len(rows)):
        row, col = rows[pair], cols[pair]
        least, most = _range(distance[row, col], row_margin[row], col_margin[col])
        for match in range(num_matches[row]):
            if least <= matches[row, match] <= most:
                counts[row, match] += exact[pair] <= matches[row, match]
