"""Random products: trees of operations on a few factors, with views, broadcasting, reductions and matrix products."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from helpers.odd_factorizations import Written

# Each takes an array, and a whole number that chooses axes and the like; any shape will do.


def axis(x, k):
    return k % max(1, x.ndim)


def at_least(x, rank):
    return x.reshape((1,) * max(0, rank - x.ndim) + tuple(x.shape))


def filled(x, k):
    result = torch.zeros(x.numel() + 2, dtype=x.dtype)
    result[1:-1] = x.flatten()
    result[k % 2 :: 2] += 0.5 * result[0 : len(result) - k % 2 : 2][: len(result[k % 2 :: 2])].clone()
    return result


def unfolded(x, k):
    flat = x.flatten()
    return flat.unfold(0, min(len(flat), 2), 1 + k % 2)


def taken(x, k):
    size = at_least(x, 1).shape[0]
    return at_least(x, 1)[torch.arange(3) * (k + 1) % size]


def long_enough(x):
    return x if x.numel() <= 24 else x.flatten()[:24]


ONE = {
    "neg": lambda x, k: -x,
    "tanh": lambda x, k: torch.tanh(x),
    "sigmoid": lambda x, k: torch.sigmoid(2 * x),
    "exp": lambda x, k: torch.exp(-x.abs()),
    "log": lambda x, k: torch.log(1 + x * x),
    "root": lambda x, k: torch.sqrt(x * x + 0.1),
    "relu": lambda x, k: torch.relu(x - 0.1),
    "cube": lambda x, k: torch.tanh(x) ** (k % 4 + 1),
    "clamp": lambda x, k: x.clamp(-0.31, 0.77 if k % 2 else None),
    "softmax": lambda x, k: at_least(x, 1).softmax(axis(x, k)),
    "sum": lambda x, k: at_least(x, 1).sum(axis(x, k), keepdim=bool(k % 2)),
    "mean": lambda x, k: x.mean(),
    "largest": lambda x, k: at_least(x, 1).amax(axis(x, k)),
    "norm": lambda x, k: x / (1 + at_least(x, 1).norm(dim=axis(x, k), keepdim=True)),
    "permuted": lambda x, k: x.permute([(a + k) % x.ndim for a in range(x.ndim)]),
    "flat": lambda x, k: x.flatten(),
    "more axes": lambda x, k: x.unsqueeze(axis(x, k)),
    "expanded": lambda x, k: x.expand(2, *x.shape),
    "flipped": lambda x, k: at_least(x, 1).flip(axis(x, k)),
    "rolled": lambda x, k: at_least(x, 1).roll(k, axis(x, k)),
    "every second": lambda x, k: at_least(x, 1)[k % 2 if at_least(x, 1).shape[0] > 1 else 0 :: 2],
    "triangle": lambda x, k: at_least(x, 2).tril(k % 3 - 1),
    "diagonal": lambda x, k: at_least(x, 2).diagonal(),
    "onto a diagonal": lambda x, k: x.flatten()[:4].diag_embed(),
    "twice": lambda x, k: torch.cat([at_least(x, 1), 2 * at_least(x, 1)], axis(x, k)),
    "stacked": lambda x, k: torch.stack([x, x * x], axis(x, k)),
    "taken": taken,
    "unfolded": unfolded,
    "filled": filled,
    "a factor fixed": lambda x, k: x * x.detach(),
    "with constants": lambda x, k: x * torch.arange(x.numel(), dtype=x.dtype).reshape(x.shape) / 7 - 0.3,
}


def broadcast(x, y):
    """The second as it goes with the first, else its mean."""
    try:
        torch.broadcast_shapes(x.shape, y.shape)
    except RuntimeError:
        return y.mean()
    return y


def multiplied(x, y, k):
    left, right = at_least(x, 2), at_least(y, 2)
    if left.shape[-1] == right.shape[-2] and left.ndim == right.ndim == 2:
        return left @ right
    return left.flatten(1)[:, :1] @ right.flatten(1)[:1] if k % 2 else torch.outer(x.flatten(), y.flatten())


TWO = {
    "add": lambda x, y, k: x + broadcast(x, y),
    "subtract": lambda x, y, k: broadcast(x, y) - x,
    "multiply": lambda x, y, k: x * broadcast(x, y),
    "divide": lambda x, y, k: x / (1 + broadcast(x, y) ** 2),
    "larger": lambda x, y, k: torch.maximum(x, broadcast(x, y) + 0.01),
    "where": lambda x, y, k: torch.where(x > 0.05, x, broadcast(x, y)),
    "product": multiplied,
    "sums of products": lambda x, y, k: torch.einsum("...a,...a->...", x.flatten(), y.mean().expand(x.numel())),
}


@st.composite
def expressions(draw):
    """A factorization whose product is a random expression, and its text."""
    shapes = draw(st.lists(st.lists(st.integers(1, 3), max_size=3).map(tuple), min_size=2, max_size=3))
    steps = []
    for _ in range(draw(st.integers(1, 7))):
        name = draw(st.sampled_from([*ONE, *TWO]))
        steps.append((name, draw(st.integers(0, 30)), draw(st.integers(0, 30)), draw(st.integers(0, 5))))

    def product(*factors):
        made = list(factors)
        for name, first, second, number in steps:
            # The last one is taken most often, so that expressions are deep.
            x = made[-1] if first % 2 else made[first // 2 % len(made)]
            y = made[second % len(made)]
            made.append(long_enough(ONE[name](x, number) if name in ONE else TWO[name](x, y, number)))
        return made[-1]

    factorization = Written(product, *shapes)
    factorization.steps = steps
    return factorization
