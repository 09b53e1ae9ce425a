# Text, not a module: what the straight-line kernel's memory and arithmetic are on a GPU, where a thread has one run.
# mypy: ignore-errors

LANES = 1


# Arrays are [numbers, threads], so that neighbouring threads read neighbouring addresses.
@device
def load(array, at):
    return array[at, cuda.grid(1)]


@device
def store(array, at, value):
    array[at, cuda.grid(1)] = value


@device
def fill(like, value):
    return REAL(value)


@device
def quotient(value, by):
    return value / by


@device
def root(value):
    return REAL(math.sqrt(value))


@device
def choose(a, b, then, otherwise):
    return then if a <= b else otherwise


@device
def power_of_two(power):
    return REAL(math.ldexp(1.0, int(power)))


@device
def exponent(value):
    return REAL(math.frexp(value)[1] - 1)


@device
def mantissa(value):
    return REAL(2 * math.frexp(value)[0])
