# Text, not a module: observed entries of a sum of outer products by index, vectors along the components.
# Above it are WIDE, the lanes of a vector, and its operations. The factors stand one below the other, row i of mode n
# at `base[n] + i`, each row padded with zeros to `size` numbers.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def predict(begin, end, places, index, base, factors, size, out):
    """Entries at the places from `begin` to `end`: products over the modes, then the sum over the components."""
    lanes = np.empty(WIDE, factors.dtype)
    for at in range(begin, end):
        entry = places[at]
        total = fill(factors, 0.0)
        for r in range(0, size, WIDE):
            made = load(factors, (base[0] + index[entry, 0]) * size + r)
            for mode in range(1, base.size):
                made = made * load(factors, (base[mode] + index[entry, mode]) * size + r)
            total = total + made
        store(lanes, 0, total)
        value = lanes[0]
        for lane in range(1, WIDE):
            value += lanes[lane]
        out[at] = value


@numba.njit(cache=True, nogil=True)
def gradients(begin, end, places, index, base, factors, size, slopes, out):
    """Add the gradients of the places from `begin` to `end` to `out`, laid out as the factors.

    A factor's row gets the slope times the product of the modes before it and that of the modes behind it.
    """
    modes = base.size
    behind = np.empty((modes + 1) * WIDE, factors.dtype)
    for at in range(begin, end):
        entry = places[at]
        for r in range(0, size, WIDE):
            made = fill(factors, 1.0)
            for mode in range(modes - 1, 0, -1):
                store(behind, mode * WIDE, made)
                made = made * load(factors, (base[mode] + index[entry, mode]) * size + r)
            store(behind, 0, made)
            before = fill(factors, slopes[at])
            for mode in range(modes):
                place = (base[mode] + index[entry, mode]) * size + r
                store(out, place, load(out, place) + before * load(behind, mode * WIDE))
                before = before * load(factors, place)
