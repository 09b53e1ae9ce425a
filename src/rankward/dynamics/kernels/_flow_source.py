# Text, not a module: gradient flow (Equation 4) by an embedded Runge-Kutta method, each lane with its own step size.
# Below a family's text, which brings `slopes`, `weights_of`, `rates_of`, and below `flow.py`'s `stages`, `difference`
# and the text of `_flow_time_source.py`.
# DECAYS: whether the flow has weight decay. It adds a multiple of the parameter to each slope.
# Nothing but +, -, *, / and square roots: so the bits are the same on any processor.
# mypy: ignore-errors


@numba.njit(cache=True, nogil=True)
def memory(sizes):
    """The family's own, slopes of all stages with the half sum behind each, a trial point, and who has accepted it."""
    weights = weights_of(sizes)
    return scratch_size(sizes) + 7 * (weights + 1) + weights + 1


@numba.njit(cache=True, nogil=True)
def smaller(a, b):
    return choose(a, b, a, b)


@numba.njit(cache=True, nogil=True)
def larger(a, b):
    return choose(a, b, b, a)


@numba.njit(cache=True, nogil=True)
def within(state, rates, number, trial):
    """The scale of an error in a parameter: atol + rtol times the larger of the two values."""
    zero = fill(state, 0.0)
    number, trial = larger(number, zero - number), larger(trial, zero - trial)
    return load(state, (rates + ATOL) * LANES) + load(state, (rates + RTOL) * LANES) * larger(number, trial)


@numba.njit(cache=True, nogil=True)
def directions(factors, origin, state, scratch, sizes, out):
    """Slopes, with those of weight decay, and behind them the half sum, which has no term for it."""
    slopes(factors, origin, state, scratch, sizes, out)
    if DECAYS:
        decay = load(state, (rates_of(sizes) + DECAY) * LANES)
        for i in range(weights_of(sizes)):
            slope = load(scratch, (out + i) * LANES) + decay * load(factors, (origin + i) * LANES)
            store(scratch, (out + i) * LANES, slope)


@numba.njit(cache=True, nogil=True)
def arrived(state, scratch, sizes):
    """Slopes and loss of every lane; a lane whose run is new gets a first step, a hundredth of its time scale."""
    weights, rates = weights_of(sizes), rates_of(sizes)
    first = scratch_size(sizes)
    directions(state, 0, state, scratch, sizes, first)
    zero = fill(state, 0.0)
    size, speed = zero, zero
    for i in range(weights):
        number = load(state, i * LANES)
        unit = within(state, rates, number, number)
        size = size + quotient(number, unit) * quotient(number, unit)
        slope = load(state, (rates + SCALE) * LANES) * load(scratch, (first + i) * LANES)
        speed = speed + quotient(slope, unit) * quotient(slope, unit)
    guess = fill(state, 0.01) * root(quotient(size, speed))
    guess = choose(guess, zero, fill(state, 1e-6), guess)
    guess = choose(guess, fill(state, 1.0), guess, fill(state, 1.0))  # also where the slopes are zero
    step = load(state, (rates + STEP) * LANES)
    new = choose(step, zero, guess, step)
    room = load(state, (rates + END_TIME) * LANES) - load(state, (rates + TIME) * LANES)
    store(state, (rates + STEP) * LANES, smaller(new, room))


@numba.njit(cache=True, nogil=True)
def fall(state, scratch, sizes, at):
    """How fast the half sum falls, over the scale: slopes times gradients, which are the slopes without the decay."""
    total = gradient(state, scratch, sizes, at, 0) * load(scratch, at * LANES)
    for i in range(1, weights_of(sizes)):
        total = total + gradient(state, scratch, sizes, at, i) * load(scratch, (at + i) * LANES)
    return total


@numba.njit(cache=True, nogil=True)
def gradient(state, scratch, sizes, at, i):
    slope = load(scratch, (at + i) * LANES)
    if DECAYS:
        slope = slope - load(state, (rates_of(sizes) + DECAY) * LANES) * load(state, i * LANES)
    return slope


@numba.njit(cache=True, nogil=True)
def move(state, scratch, sizes, steps):
    """Try one step in every lane.

    A step is accepted where its error is within the tolerance, and it does not jump over the stop. One that would is
    made shorter until it ends less than 1e-10 (relative) below: the loss of a flow falls, at the rate |slope|^2, so
    Newton's step and the secant's, the shorter of them, come near from above. With weight decay the loss may rise: then
    there is no step of Newton's.
    """
    weights, rates = weights_of(sizes), rates_of(sizes)
    k = scratch_size(sizes)
    stride = weights + 1
    z = k + 7 * stride
    zero, one = fill(state, 0.0), fill(state, 1.0)
    scale = load(state, (rates + SCALE) * LANES)
    step = load(state, (rates + STEP) * LANES)
    stages(state, scratch, sizes, k, stride, z, step * scale)

    total = zero
    for i in range(weights):
        unit = within(state, rates, load(state, i * LANES), load(scratch, (z + i) * LANES))
        share = quotient(difference(scratch, k, stride, i, step * scale), unit)
        total = total + share * share
    error = root(quotient(total, load(state, (rates + COUNT) * LANES)))

    stop = load(state, (rates + STOP) * LANES)
    aim = stop * fill(state, 1 - 5e-11)
    before, after = load(scratch, (k + weights) * LANES), load(scratch, (k + 6 * stride + weights) * LANES)
    exact = choose(error, one, one, zero)
    beyond = choose(stop * fill(state, 1 - 1e-10), after, zero, exact)
    accepted = exact - beyond
    time = load(state, (rates + TIME) * LANES)
    store(state, (rates + TIME) * LANES, choose(one, accepted, time + step, time))
    for i in range(weights):
        store(state, i * LANES, choose(one, accepted, load(scratch, (z + i) * LANES), load(state, i * LANES)))
    secant = step * quotient(before - aim, before - after)
    for i in range(stride):
        kept, fresh = load(scratch, (k + i) * LANES), load(scratch, (k + 6 * stride + i) * LANES)
        store(scratch, (k + i) * LANES, choose(one, accepted, fresh, kept))
    store(scratch, (z + weights) * LANES, accepted)

    # Step sizes by the error of this step and of the last (a PI controller), exponents 1/8 and 1/16.
    low, high = fill(state, 0.2), fill(state, 5.0)
    now = root(root(root(larger(error, fill(state, 1e-12)))))
    last = load(state, (rates + ERROR) * LANES)
    factor = fill(state, 0.9) * choose(one, accepted, quotient(root(last), now), quotient(one, now))
    following = step * choose(low, factor, smaller(factor, high), low)
    store(state, (rates + ERROR) * LANES, choose(one, accepted, now, last))
    following = choose(one, beyond, secant, following)
    closing = larger(load(state, (rates + CLOSING) * LANES), beyond)
    store(state, (rates + CLOSING) * LANES, closing)
    speed = scale * fall(state, scratch, sizes, k)
    newton = quotient(load(scratch, (k + weights) * LANES) - aim, speed)
    if DECAYS:
        newton = choose(speed, zero, fill(state, LARGEST_STEP), newton)
    following = choose(one, closing, smaller(newton, following), following)
    room = load(state, (rates + END_TIME) * LANES) - load(state, (rates + TIME) * LANES)
    store(state, (rates + STEP) * LANES, smaller(smaller(following, fill(state, LARGEST_STEP)), room))
    return 1


@numba.njit(cache=True, nogil=True)
def look(state, scratch, sizes, loss):
    store(loss, 0, load(scratch, (scratch_size(sizes) + weights_of(sizes)) * LANES))


@numba.njit(cache=True, nogil=True)
def moved(scratch, sizes, lane, steps):
    """Whether the lane has accepted its step."""
    weights = weights_of(sizes)
    at = scratch_size(sizes) + 7 * (weights + 1) + weights
    return np.int64(scratch[at * LANES + lane]) if steps > 0 else 0
