"""A small transformer on digits: `python examples/digits_transformer.py`."""

import torch
from torch import Tensor, nn

from digits import Example, run


class Transformer(nn.Module):
    """The rows of an image are its tokens: two layers of attention with 4 heads over 32 features, then a mean."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(torch.randn(8, width) / 10)
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=64, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
        self.read = nn.Linear(width, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.layers(self.embed(images) + self.place)
        outputs: Tensor = self.read(tokens.mean(1))
        return outputs


if __name__ == "__main__":
    run(
        Example(
            "transformer", Transformer, "network.layers.layers.1.linear1.weight", "network.layers", flatten="rest,last"
        )
    )
