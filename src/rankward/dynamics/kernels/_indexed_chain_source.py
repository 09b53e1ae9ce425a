# Text, not a module: observed entries of a product A B' by index, rows of A and B padded with zeros to full vectors.
# Above it are WIDE, the lanes of a vector, and `dots`.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def predict(begin, end, places, rows, cols, a, b, size, out):
    """Entries of A B' at the places from `begin` to `end`: each is summed in the same order in any company."""
    last = end - 1
    for at in range(begin, end, WIDE):
        dots(at, last, places, rows, cols, a, b, size, out)


@numba.njit(cache=True, nogil=True)
def gather(begin, end, first, entries, others, slopes, b, size, out):
    """Rows of S B, S the sparse matrix of the slopes; row i has the entries from `first[i]` to `first[i + 1]`.

    Entry k has the slope `slopes[entries[k]]`, and stands in column `others[k]`. Sums are in the order of the entries.
    """
    for row in range(begin, end):
        start, stop = first[row], first[row + 1]
        at = 0
        while at + 4 * WIDE <= size:
            s0 = fill(b, 0.0)
            s1 = fill(b, 0.0)
            s2 = fill(b, 0.0)
            s3 = fill(b, 0.0)
            for k in range(start, stop):
                slope = spread(slopes, entries[k])
                place = others[k] * size + at
                s0 = s0 + slope * load(b, place)
                s1 = s1 + slope * load(b, place + WIDE)
                s2 = s2 + slope * load(b, place + 2 * WIDE)
                s3 = s3 + slope * load(b, place + 3 * WIDE)
            target = row * size + at
            store(out, target, s0)
            store(out, target + WIDE, s1)
            store(out, target + 2 * WIDE, s2)
            store(out, target + 3 * WIDE, s3)
            at += 4 * WIDE
        while at < size:
            s0 = fill(b, 0.0)
            for k in range(start, stop):
                s0 = s0 + spread(slopes, entries[k]) * load(b, others[k] * size + at)
            store(out, row * size + at, s0)
            at += WIDE
