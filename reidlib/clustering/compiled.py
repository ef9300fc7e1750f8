"""Kernels of clustering that numba compiles, see `reidlib.neighbors.kernels`."""

from __future__ import annotations

import numpy as np

from reidlib.neighbors.kernels import kernel


@kernel
def _compacted(first, length, cols, distances):
    """Return the lists without the gaps between them, and where they end."""
    new_cols, new_distances = np.empty_like(cols), np.empty_like(distances)
    end = 0
    for row in range(len(first)):
        begin, size = first[row], length[row]
        for place in range(size):  # a slice takes seconds to compile
            new_cols[end + place] = cols[begin + place]
            new_distances[end + place] = distances[begin + place]
        first[row] = end
        end += size
    return new_cols, new_distances, end


@kernel
def average_linkage(starts, cols, distances):
    """Merge the nearest clusters, by mean distance, until one is left.

    A chain leads from a cluster to its nearest one and on, until two are the nearest of
    each other: those merge. A mean distance is 1 but for pairs that are listed, so a
    cluster keeps a list of the others that are nearer. Distances are computed, and ties
    go, as in `scipy.cluster.hierarchy.linkage`.

    Args:
        starts: ``(N + 1,)`` where the row of each image begins.
        cols: Its columns, rising, symmetric, without the diagonal.
        distances: ``float64``, below 1.

    Returns:
        ``(N - 1, 2)`` the merges, the first cluster becoming part of the second, and
        their ``(N - 1,)`` mean distances.
    """
    num_images = len(starts) - 1
    first, length = starts[:-1].copy(), starts[1:] - starts[:-1]
    # Lists together never grow: a new one is no longer than the two it is made of.
    pool, mean = np.empty(2 * len(cols), np.int32), np.empty(2 * len(cols), np.float64)
    end = len(cols)
    for place in range(end):
        pool[place], mean[place] = cols[place], distances[place]
    sizes = np.ones(num_images, np.int64)
    merges = np.empty((num_images - 1, 2), np.int64)
    heights = np.empty(num_images - 1)
    chain = np.empty(num_images, np.int64)
    links = lowest = 0
    for merge in range(num_images - 1):
        while sizes[lowest] == 0:
            lowest += 1
        if links == 0:
            chain[0] = lowest
            links = 1
        while True:
            one = chain[links - 1]
            begin = first[one]
            their = pool[begin : begin + length[one]]
            other, least = -1, np.inf
            if links > 1:  # the one before comes first among equals
                other, least = chain[links - 2], 1.0
                place = np.searchsorted(their, other)
                if place < len(their) and their[place] == other:
                    least = mean[begin + place]
            for place in range(len(their)):
                if mean[begin + place] < min(least, 1.0):
                    other, least = np.int64(their[place]), mean[begin + place]
            if other < 0:  # all are at a distance of 1
                other, least = lowest, 1.0
                while sizes[other] == 0 or other == one:
                    other += 1
            if links > 1 and other == chain[links - 2]:
                break
            chain[links] = other
            links += 1
        links -= 2
        one, other = min(one, other), max(one, other)
        merges[merge, 0], merges[merge, 1], heights[merge] = one, other, least

        if end + length[one] + length[other] > len(pool):
            pool, mean, end = _compacted(first, length, pool, mean)
        num_one, num_other = sizes[one], sizes[other]
        total = num_one + num_other
        a, b = first[one], first[other]
        a_end, b_end = a + length[one], b + length[other]
        first[other] = end
        while a < a_end or b < b_end:
            third = min(
                pool[a] if a < a_end else num_images,
                pool[b] if b < b_end else num_images,
            )
            from_one = from_other = 1.0
            in_one = a < a_end and pool[a] == third
            in_other = b < b_end and pool[b] == third
            if in_one:
                from_one = mean[a]
                a += 1
            if in_other:
                from_other = mean[b]
                b += 1
            if third in (one, other):
                continue
            value = (num_one * from_one + num_other * from_other) / total
            pool[end], mean[end] = third, value
            end += 1
            # The list of the third loses the one cluster and has the other.
            begin = first[third]
            theirs = pool[begin : begin + length[third]]
            values = mean[begin : begin + length[third]]
            place = np.searchsorted(theirs, other)
            if in_one:
                gap = np.searchsorted(theirs, one)
                stop = len(theirs) - 1 if in_other else place - 1
                for entry in range(gap, stop):
                    theirs[entry], values[entry] = theirs[entry + 1], values[entry + 1]
                place -= 1
                length[third] -= in_other
            theirs[place], values[place] = other, value
        length[other] = end - first[other]
        sizes[one], sizes[other], length[one] = 0, total, 0
    return merges, heights
