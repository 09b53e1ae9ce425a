"""Cost of WeightMetrics: a measurement of a ResNet-18's weights against a training step, on the device that is there.

Run with `python -m benchmarks.weights`; an argument is the batch size, of 3x32x32 images. The network is the usual one
for such images: a 3x3 convolution, eight blocks of two, and a linear layer: 11.2 million weights.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from rankward.callbacks import WeightMetrics
from rankward.metrics import EffectiveRank, NumericalRank, StableRank


class Block(nn.Module):
    """Two convolutions with a connection around them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)])
        self.around = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.norms[0](self.first(images)))
        return torch.relu(self.norms[1](self.second(hidden)) + self.around(images))


def resnet18() -> nn.Module:
    """A ResNet-18 for images of 32x32 pixels."""
    widths = (64, 64, 128, 256, 512)
    blocks = []
    for before, width in pairwise(widths):
        blocks += [Block(before, width, 1 if width == 64 else 2), Block(width, width, 1)]
    stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


def seconds(call: Callable[[], object], repeats: int, device: str) -> float:
    """The median time of a call, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    """Print both times and the share of the measurements at the default interval."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    model = resnet18().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    images, labels = torch.randn(batch, 3, 32, 32, device=device), torch.randint(10, (batch,), device=device)
    callback = WeightMetrics([EffectiveRank(), StableRank(), NumericalRank()])

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def measure() -> None:
        torch.stack(list(callback.columns(model).values())).tolist()

    one_step, one_measurement = seconds(step, 20 if device == "cuda" else 3, device), seconds(measure, 3, device)
    share = one_measurement / (callback.every_n_steps * one_step)
    print(
        f"{torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}, batch {batch}: a step {one_step * 1e3:.1f} ms"
    )
    print(f"a measurement {one_measurement * 1e3:.0f} ms: {100 * share:.2f} % every {callback.every_n_steps} steps")


if __name__ == "__main__":
    main()
