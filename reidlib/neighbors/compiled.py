"""Kernels of neighbours that numba compiles, see `reidlib.neighbors.kernels`."""

from __future__ import annotations

from functools import partial

import numpy as np

from reidlib.neighbors.kernels import kernel

_CHUNK = 64  # numbers that are compared at once, before one is looked at


@kernel
def grown(values, size):
    """Return the array with room for ``size`` values and more."""
    if size <= len(values):
        return values
    larger = np.empty(2 * size, values.dtype)
    for place in range(len(values)):  # a slice takes seconds to compile
        larger[place] = values[place]
    return larger


@kernel
def _insert(values, indices, value, index):
    """Put a value into a falling list, equal ones by rising index; the last drops."""
    place = len(values) - 1
    if value == values[place] and index > indices[place]:
        return
    while place > 0 and (
        values[place - 1] < value
        or (values[place - 1] == value and indices[place - 1] > index)
    ):
        values[place] = values[place - 1]
        indices[place] = indices[place - 1]
        place -= 1
    values[place] = value
    indices[place] = index


@kernel
def keep_largest_of_rows(start, stop, product, first_row, first_col, values, indices):
    """Merge each row of a block of products into the list of its image.

    Args:
        start: First row of the block that is looked at.
        stop: Row after the last one.
        product: ``(R, C)`` float32 similarities.
        first_row: Image of row 0 of the block.
        first_col: Image of its column 0. An image never enters its own list.
        values: ``(N, K)`` float32, the largest similarities so far, falling.
        indices: ``(N, K)`` int32, their images.
    """
    cols = product.shape[1]
    for row in range(start, stop):
        image = first_row + row
        floor = values[image, -1]
        for begin in range(0, cols, _CHUNK):
            end = min(begin + _CHUNK, cols)
            found = 0
            for col in range(begin, end):
                found += product[row, col] >= floor
            if found:
                for col in range(begin, end):
                    if product[row, col] >= floor and first_col + col != image:
                        _insert(
                            values[image],
                            indices[image],
                            product[row, col],
                            first_col + col,
                        )
                        floor = values[image, -1]


@kernel
def keep_largest_of_columns(
    start, stop, product, first_row, first_col, values, indices
):
    """Merge each column of a block into the list of its image: the other triangle."""
    floors = values[first_col + start : first_col + stop, -1].copy()
    for row in range(product.shape[0]):
        for begin in range(0, stop - start, _CHUNK):
            end = min(begin + _CHUNK, stop - start)
            found = 0
            for place in range(begin, end):
                found += product[row, start + place] >= floors[place]
            if found:
                for place in range(begin, end):
                    value = product[row, start + place]
                    if value >= floors[place]:
                        image = first_col + start + place
                        _insert(values[image], indices[image], value, first_row + row)
                        floors[place] = values[image, -1]


# The sum may be split over the lanes of the processor: a speed that costs nothing here,
# as what is rounded to float32 has far more digits.
@partial(kernel, fastmath={"reassoc", "contract"})
def _similarity(one, other):
    """Return an inner product, summed in float64 and rounded to float32."""
    total = 0.0
    for dim in range(len(one)):
        total += np.float64(one[dim]) * np.float64(other[dim])
    return np.float32(total)


@kernel
def similarities(start, stop, queries, features, rows, others, similarity):
    """Write the similarity of each pair of a row of queries and one of features."""
    for pair in range(start, stop):
        similarity[pair] = _similarity(queries[rows[pair]], features[others[pair]])


@kernel
def set_similarities(start, stop, features, starts, members, similarity):
    """Write the similarity of each image with the members of its set.

    NaN at the pairs (i, j), j < i, that are written at (j, i): `copy_similarities`.
    """
    for image in range(start, stop):
        for entry in range(starts[image], starts[image + 1]):
            other = members[entry]
            similarity[entry] = np.nan
            if other < image:
                their = members[starts[other] : starts[other + 1]]
                place = np.searchsorted(their, image)
                if place < len(their) and their[place] == image:
                    continue
            similarity[entry] = _similarity(features[image], features[other])


@kernel
def copy_similarities(start, stop, starts, members, similarity):
    """Fill what `set_similarities` left out."""
    for image in range(start, stop):
        for entry in range(starts[image], starts[image + 1]):
            if np.isnan(similarity[entry]):
                other = members[entry]
                their = members[starts[other] : starts[other + 1]]
                place = starts[other] + np.searchsorted(their, image)
                similarity[entry] = similarity[place]


@kernel
def own_places(start, stop, ranking, places):
    """Write at (i, c) the place of i in the row of image ``ranking[i, c]``, or K."""
    size = ranking.shape[1]
    for image in range(start, stop):
        for col in range(size):
            other = ranking[image, col]
            place = size
            for their in range(size):
                if ranking[other, their] == image:
                    place = their
            places[image, col] = place


@kernel
def sets(start, stop, ranking, places, half):
    """Return size and sorted members of each expanded k-reciprocal set.

    ``R(i, k)`` holds the images at columns c < k of row i with ``places[i, c] < k``.
    """
    num_images, size = ranking.shape
    is_first = np.full(num_images, -1, np.int32)  # the last i with j in R(i, K)
    is_member = np.full(num_images, -1, np.int32)
    sizes = np.zeros(stop - start, np.int64)
    members = np.empty(64, np.int32)
    end = 0
    for image in range(start, stop):
        begin = end
        members = grown(members, end + size + size * half)
        for col in range(size):
            if places[image, col] < size:
                other = ranking[image, col]
                is_first[other] = is_member[other] = image
                members[end] = other
                end += 1
        for first in range(begin, end):
            candidate = members[first]
            total = shared = 0
            for col in range(half):
                if places[candidate, col] < half:
                    total += 1
                    shared += is_first[ranking[candidate, col]] == image
            if 3 * shared > 2 * total:
                for col in range(half):
                    other = ranking[candidate, col]
                    if places[candidate, col] < half and is_member[other] != image:
                        is_member[other] = image
                        members[end] = other
                        end += 1
        members[begin:end].sort()
        sizes[image - start] = end - begin
    return sizes, members[:end].copy()


@kernel
def mean_rows(start, stop, ranking, starts, members, weights):
    """Return size, sorted columns and values of the mean of the rows in a ranking."""
    num_images, size = ranking.shape
    total = np.zeros(num_images)
    sizes = np.zeros(stop - start, np.int64)
    cols, values = np.empty(64, np.int32), np.empty(64, np.float64)
    end = 0
    for image in range(start, stop):
        begin = end
        for other in ranking[image]:
            room = end + starts[other + 1] - starts[other]
            cols, values = grown(cols, room), grown(values, room)
            for entry in range(starts[other], starts[other + 1]):
                member = members[entry]
                if total[member] == 0:
                    cols[end] = member
                    end += 1
                total[member] += 1 / size * weights[entry]
        cols[begin:end].sort()
        for entry in range(begin, end):
            values[entry] = total[cols[entry]]
            total[cols[entry]] = 0
        sizes[image - start] = end - begin
    return sizes, cols[:end].copy(), values[:end].copy()


@kernel
def near_pairs(
    start, stop, starts, cols, weights, places, ends, others, their_weights, limit
):
    """Return each image's later images within a distance, and these distances.

    Args:
        start: First image.
        stop: Image after the last one.
        starts: ``(N + 1,)`` where each row of the weights begins.
        cols: Their columns.
        weights: Their values.
        places: Where each of them is in its column: from there on come later rows.
        ends: ``(N + 1,)`` where each column begins.
        others: Rows of the weights, column by column.
        their_weights: Their values.
        limit: float32, largest distance that is kept.
    """
    overlap = np.zeros(len(starts) - 1)
    seen = np.empty(len(starts) - 1, np.int32)
    sizes = np.zeros(stop - start, np.int64)
    pairs, distances = np.empty(64, np.int32), np.empty(64, np.float32)
    end = 0
    for image in range(start, stop):
        num_seen = 0
        for entry in range(starts[image], starts[image + 1]):
            weight = weights[entry]
            for place in range(places[entry] + 1, ends[cols[entry] + 1]):
                other = others[place]
                if overlap[other] == 0:
                    seen[num_seen] = other
                    num_seen += 1
                overlap[other] += min(weight, their_weights[place])
        begin = end
        pairs = grown(pairs, end + num_seen)
        for place in range(num_seen):
            shared = overlap[seen[place]]
            distance = np.float32(max(1 - shared / (2 - shared), 0.0))
            if distance <= limit and distance < 1:
                pairs[end] = seen[place]
                end += 1
            else:
                overlap[seen[place]] = 0
        pairs[begin:end].sort()
        distances = grown(distances, end)
        for place in range(begin, end):
            shared = overlap[pairs[place]]
            distances[place] = np.float32(max(1 - shared / (2 - shared), 0.0))
            overlap[pairs[place]] = 0
        sizes[image - start] = end - begin
    return sizes, pairs[:end].copy(), distances[:end].copy()


@kernel
def add_overlaps(
    start, stop, starts, cols, weights, ends, others, their_weights, overlap
):
    """Add the overlap of each row with each other row: `near_pairs`, but dense."""
    for row in range(start, stop):
        for entry in range(starts[row], starts[row + 1]):
            weight = weights[entry]
            for place in range(ends[cols[entry]], ends[cols[entry] + 1]):
                overlap[row, others[place]] += min(weight, their_weights[place])


@kernel
def both_triangles(starts, others, distances):
    """Return the symmetric sparse rows of the upper triangle, with a diagonal of 0."""
    num_images = len(starts) - 1
    sizes = starts[1:] - starts[:-1] + 1
    for other in others:
        sizes[other] += 1
    ends = np.zeros(num_images + 1, np.int64)
    for image in range(num_images):
        ends[image + 1] = ends[image] + sizes[image]
    cols = np.empty(ends[-1], np.int32)
    values = np.empty(ends[-1], np.float32)
    free = ends[:-1].copy()
    for image in range(num_images):
        # All earlier images have written their part of this row.
        cols[free[image]], values[free[image]] = image, 0
        free[image] += 1
        for place in range(starts[image], starts[image + 1]):
            other = np.int64(others[place])
            for row, col in ((image, other), (other, image)):
                cols[free[row]], values[free[row]] = col, distances[place]
                free[row] += 1
    return ends, cols, values
