"""The article's network in PyTorch, layer for layer, to measure against."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

# Said again and not imported from stn_bench.subjects.stn.nn, which would bring Keras into PyTorch's process.
TRUNK = ((512, 5, 3), (256, 3, 2), (64, 3, 2))  # channels at width 1, kernel, stride
LOCALISATION_CHANNELS = 20
IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
DROPOUT = 0.2


def scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


class BatchRenorm(nn.Module):
    """Batch renormalisation (Ioffe 2017) without clipping, with Keras' momentum and epsilon.

    The corrections are constants for the gradient, so that they enter PyTorch's fused kernel as its scale and bias.
    """

    def __init__(self, channels: int, momentum: float = 0.99, epsilon: float = 1e-3) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.momentum, self.epsilon = momentum, epsilon

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            variance = self.deviation.square() - self.epsilon
            return functional.batch_norm(x, self.mean, variance, self.weight, self.bias, eps=self.epsilon)
        with torch.no_grad():
            variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
            deviation = (variance + self.epsilon).sqrt()
            r, d = deviation / self.deviation, (mean - self.mean) / self.deviation
            self.mean.lerp_(mean, 1 - self.momentum)
            self.deviation.lerp_(deviation, 1 - self.momentum)
        scale, offset = r * self.weight, d * self.weight + self.bias
        return functional.batch_norm(x, None, None, scale, offset, training=True, eps=self.epsilon)


def trunk(width: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for wide, kernel, stride in TRUNK:
        wanted = scaled(wide, width)
        # Padding 1 gives Keras' sizes 20, 10 and 5; at stride 2 its "same" pads below and right only, at equal cost.
        convolution = nn.Conv2d(channels, wanted, kernel, stride, padding=1)
        layers += [convolution, nn.ReLU(), BatchRenorm(wanted), nn.Dropout(DROPOUT)]
        channels = wanted
    return nn.Sequential(*layers)


class Localisation(nn.Module):
    def __init__(self, width: float) -> None:
        super().__init__()
        channels = scaled(LOCALISATION_CHANNELS, width)
        self.trunk = trunk(width)
        self.convolution = nn.Conv2d(scaled(TRUNK[-1][0], width), channels, 3, padding=1)
        self.matrix = nn.Linear(channels, len(IDENTITY))
        nn.init.zeros_(self.matrix.weight)
        with torch.no_grad():
            self.matrix.bias.copy_(torch.tensor(IDENTITY))

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(self.trunk(x)).relu().mean(dim=(2, 3))
        return self.matrix(x).view(-1, 2, 3)


class Network(nn.Module):
    """The plain CNN, or with `transformer` the STN: raw uint8 pictures of shape `(batch, 60, 60, 3)` to logits."""

    def __init__(self, width: float, *, transformer: bool, classes: int = 26) -> None:
        super().__init__()
        self.localisation = Localisation(width) if transformer else None
        self.trunk = trunk(width)
        self.scores = nn.Conv2d(scaled(TRUNK[-1][0], width), classes, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        x = pictures.permute(0, 3, 1, 2).float() / 255.0
        if self.localisation is not None:
            grid = functional.affine_grid(self.localisation(x), x.shape, align_corners=True)
            x = functional.grid_sample(x, grid, align_corners=True)
        return self.scores(self.trunk(x)).mean(dim=(2, 3))
