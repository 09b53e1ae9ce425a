"""A small convolutional network on digits: `python examples/digits_convnet.py`."""

from torch import nn

from digits import Example, run


def network() -> nn.Module:
    """Two convolutions with 16 and 32 channels, pooled to 4 × 4, and a linear layer."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16, 10),
    )


if __name__ == "__main__":
    run(Example("convnet", network, weight="network.3.weight", features="network.6"))
