# Text, not a module: arithmetic of LANES runs at once; matrix products in blocks of 3x2 results held in registers.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True, inline="never")
def in_registers(out, o, a, ao, ar, ac, b, bo, br, bc, rows, cols, inner):
    """out[i, j] = sum over ascending k of a[i, k] * b[k, j]; offsets and strides count vectors of LANES."""
    i = 0
    while i + 3 <= rows:
        a0 = (ao + i * ar) * LANES
        a1 = a0 + ar * LANES
        a2 = a1 + ar * LANES
        j = 0
        while j + 2 <= cols:
            b0 = (bo + j * bc) * LANES
            b1 = b0 + bc * LANES
            x0, x1, x2 = load(a, a0), load(a, a1), load(a, a2)
            y0, y1 = load(b, b0), load(b, b1)
            c00, c01, c10, c11, c20, c21 = x0 * y0, x0 * y1, x1 * y0, x1 * y1, x2 * y0, x2 * y1
            for k in range(1, inner):
                p, q = k * ac * LANES, k * br * LANES
                x0, x1, x2 = load(a, a0 + p), load(a, a1 + p), load(a, a2 + p)
                y0, y1 = load(b, b0 + q), load(b, b1 + q)
                c00, c01 = c00 + x0 * y0, c01 + x0 * y1
                c10, c11 = c10 + x1 * y0, c11 + x1 * y1
                c20, c21 = c20 + x2 * y0, c21 + x2 * y1
            at = (o + i * cols + j) * LANES
            store(out, at, c00)
            store(out, at + LANES, c01)
            at += cols * LANES
            store(out, at, c10)
            store(out, at + LANES, c11)
            at += cols * LANES
            store(out, at, c20)
            store(out, at + LANES, c21)
            j += 2
        if j < cols:
            b0 = (bo + j * bc) * LANES
            y0 = load(b, b0)
            c00, c10, c20 = load(a, a0) * y0, load(a, a1) * y0, load(a, a2) * y0
            for k in range(1, inner):
                p = k * ac * LANES
                y0 = load(b, b0 + k * br * LANES)
                c00, c10, c20 = c00 + load(a, a0 + p) * y0, c10 + load(a, a1 + p) * y0, c20 + load(a, a2 + p) * y0
            at = (o + i * cols + j) * LANES
            store(out, at, c00)
            store(out, at + cols * LANES, c10)
            store(out, at + 2 * cols * LANES, c20)
        i += 3
    while i < rows:
        a0 = (ao + i * ar) * LANES
        j = 0
        while j + 4 <= cols:
            b0 = (bo + j * bc) * LANES
            b1, b2, b3 = b0 + bc * LANES, b0 + 2 * bc * LANES, b0 + 3 * bc * LANES
            x0 = load(a, a0)
            c00, c01, c02, c03 = x0 * load(b, b0), x0 * load(b, b1), x0 * load(b, b2), x0 * load(b, b3)
            for k in range(1, inner):
                x0, q = load(a, a0 + k * ac * LANES), k * br * LANES
                c00, c01 = c00 + x0 * load(b, b0 + q), c01 + x0 * load(b, b1 + q)
                c02, c03 = c02 + x0 * load(b, b2 + q), c03 + x0 * load(b, b3 + q)
            at = (o + i * cols + j) * LANES
            store(out, at, c00)
            store(out, at + LANES, c01)
            store(out, at + 2 * LANES, c02)
            store(out, at + 3 * LANES, c03)
            j += 4
        while j < cols:
            b0 = (bo + j * bc) * LANES
            c00 = load(a, a0) * load(b, b0)
            for k in range(1, inner):
                c00 = c00 + load(a, a0 + k * ac * LANES) * load(b, b0 + k * br * LANES)
            store(out, (o + i * cols + j) * LANES, c00)
            j += 1
        i += 1


@numba.njit(cache=True, nogil=True)
def multiply_strided(out, o, a, ao, ar, ac, b, bo, br, bc, rows, cols, inner, spare):
    """The product of matrices that lie anyhow; strides of 1 are written out, which saves a quarter of the time."""
    if bc == 1 and ac == 1:
        in_registers(out, o, a, ao, ar, 1, b, bo, br, 1, rows, cols, inner)
    elif bc == 1 and ar == 1:
        in_registers(out, o, a, ao, 1, ac, b, bo, br, 1, rows, cols, inner)
    elif br == 1 and ac == 1:
        in_registers(out, o, a, ao, ar, 1, b, bo, 1, bc, rows, cols, inner)
    elif br == 1 and ar == 1:
        in_registers(out, o, a, ao, 1, ac, b, bo, 1, bc, rows, cols, inner)
    else:
        in_registers(out, o, a, ao, ar, ac, b, bo, br, bc, rows, cols, inner)


@numba.njit(cache=True, nogil=True)
def get(array, at, i, step):
    return load(array, (at + i * step) * LANES)


@numba.njit(cache=True, nogil=True)
def put(array, at, i, value):
    store(array, (at + i) * LANES, value)


@numba.njit(cache=True, nogil=True)
def turns(count):
    return count
