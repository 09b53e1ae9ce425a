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
