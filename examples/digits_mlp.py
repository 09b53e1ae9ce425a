"""A multilayer perceptron on digits: `python examples/digits_mlp.py`."""

from torch import nn

from digits import Example, run


def network() -> nn.Module:
    """Two hidden layers of 128 units."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10)
    )


if __name__ == "__main__":
    run(Example("mlp", network, weight="network.3.weight", features="network.4"))
