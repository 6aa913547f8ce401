# mypy: ignore-errors
"""A one-stage detector of our own in the YOLO family's style, without anchors.

A backbone of cross-stage-partial blocks (C2f), spatial pyramid pooling, a path-aggregation neck,
and heads that predict classes and box edges apart, at strides 8, 16 and 32. Each edge is the mean
of a distribution over distances (distribution focal loss). Only to be exported: no training, no
non-maximum suppression.
"""

import torch
from torch import nn

STRIDES = (8, 16, 32)
BINS = 16  # distances that an edge's distribution is over, in cells


class ConvNormAct(nn.Module):
    """Convolution, BatchNorm, SiLU."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, stride: int = 1):
        super().__init__()
        self.conv = nn.Conv2d(
            channels_in, channels_out, kernel, stride, padding=kernel // 2, bias=False
        )
        self.norm = nn.BatchNorm2d(channels_out, eps=1e-3)

    def forward(self, x):
        """The input at 1 / stride of its size."""
        return nn.functional.silu(self.norm(self.conv(x)))


class Bottleneck(nn.Module):
    """Two 3 x 3 convolutions, with a way around them or without."""

    def __init__(self, channels: int, *, shortcut: bool):
        super().__init__()
        self.first = ConvNormAct(channels, channels, 3)
        self.second = ConvNormAct(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x):
        """The same shape."""
        y = self.second(self.first(x))
        return x + y if self.shortcut else y


class PartialStage(nn.Module):
    """Half of the channels goes through the bottlenecks; every step's result is concatenated."""

    def __init__(self, channels_in: int, channels_out: int, depth: int, *, shortcut: bool):
        super().__init__()
        half = channels_out // 2
        self.split = ConvNormAct(channels_in, channels_out)
        self.blocks = nn.ModuleList(Bottleneck(half, shortcut=shortcut) for _ in range(depth))
        self.merge = ConvNormAct((2 + depth) * half, channels_out)

    def forward(self, x):
        """The same height and width."""
        parts = list(self.split(x).chunk(2, dim=1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.merge(torch.cat(parts, dim=1))


class PyramidPooling(nn.Module):
    """The maxima over 5, 9 and 13 cells, by pooling one after the other."""

    def __init__(self, channels: int):
        super().__init__()
        self.reduce = ConvNormAct(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.merge = ConvNormAct(2 * channels, channels)

    def forward(self, x):
        """The same shape."""
        parts = [self.reduce(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        return self.merge(torch.cat(parts, dim=1))


class Head(nn.Module):
    """One scale's predictions: 4 x BINS for the box's edges, and the classes."""

    def __init__(self, channels: int, box_channels: int, class_channels: int, classes: int):
        super().__init__()
        self.box = self._branch(channels, box_channels, 4 * BINS)
        self.classes = self._branch(channels, class_channels, classes)

    @staticmethod
    def _branch(channels: int, hidden: int, out: int) -> nn.Sequential:
        return nn.Sequential(
            ConvNormAct(channels, hidden, 3),
            ConvNormAct(hidden, hidden, 3),
            nn.Conv2d(hidden, out, 1),
        )

    def forward(self, x):
        """(batch, 4 x BINS + classes, cells)."""
        return torch.cat([self.box(x), self.classes(x)], dim=1).flatten(2)


class Yolo(nn.Module):
    """The whole detector.

    Args:
        widths: channels of the five stages, at strides 2, 4, 8, 16 and 32.
        depth: bottlenecks in the shallow stages; the two in the middle have twice as many.
        classes: how many there are.
        image_size: pixels of the square picture's side.
    """

    def __init__(self, widths: list[int], depth: int, classes: int, image_size: int):
        super().__init__()
        stem, *stages = widths
        _, small, middle, large = stages
        self.stem = ConvNormAct(3, stem, 3, stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                ConvNormAct(before, width, 3, stride=2),
                PartialStage(width, width, repeats, shortcut=True),
            )
            for before, width, repeats in zip(
                widths, stages, (depth, 2 * depth, 2 * depth, depth), strict=False
            )
        )
        self.pooling = PyramidPooling(large)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.up_middle = PartialStage(large + middle, middle, depth, shortcut=False)
        self.up_small = PartialStage(middle + small, small, depth, shortcut=False)
        self.shrink_small = ConvNormAct(small, small, 3, stride=2)
        self.down_middle = PartialStage(small + middle, middle, depth, shortcut=False)
        self.shrink_middle = ConvNormAct(middle, middle, 3, stride=2)
        self.down_large = PartialStage(middle + large, large, depth, shortcut=False)
        box_channels = max(small // 4, 4 * BINS)
        class_channels = max(small, classes)
        self.heads = nn.ModuleList(
            Head(width, box_channels, class_channels, classes) for width in (small, middle, large)
        )
        self.classes = classes
        centres, strides = _cells(image_size)
        self.register_buffer("centres", centres, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("bins", torch.arange(float(BINS)), persistent=False)

    def forward(self, images):
        """Boxes (centre x, centre y, width, height in pixels) and class scores of every cell."""
        x, taps = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            taps.append(x)
        _, small, middle, _ = taps
        large = self.pooling(x)
        middle = self.up_middle(torch.cat([self.upsample(large), middle], dim=1))
        small = self.up_small(torch.cat([self.upsample(middle), small], dim=1))
        middle = self.down_middle(torch.cat([self.shrink_small(small), middle], dim=1))
        large = self.down_large(torch.cat([self.shrink_middle(middle), large], dim=1))
        scales = zip(self.heads, (small, middle, large), strict=True)
        found = torch.cat([head(features) for head, features in scales], dim=2)
        edges, scores = found.split([4 * BINS, self.classes], dim=1)
        return torch.cat([self._boxes(edges), scores.sigmoid()], dim=1)

    def _boxes(self, edges):
        batch, _, cells = edges.shape
        likely = edges.view(batch, 4, BINS, cells).transpose(1, 2).softmax(dim=1)
        near, far = (likely * self.bins.view(1, BINS, 1, 1)).sum(dim=1).chunk(2, dim=1)
        low, high = self.centres - near, self.centres + far
        return torch.cat([(low + high) / 2, high - low], dim=1) * self.strides


def _cells(image_size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres (2, cells) in cells of their own scale, and pixels per cell (1, cells)."""
    centres, strides = [], []
    for stride in STRIDES:
        places = torch.arange(image_size // stride) + 0.5
        y, x = torch.meshgrid(places, places, indexing="ij")
        centres.append(torch.stack([x.flatten(), y.flatten()]))
        strides.append(torch.full((1, x.numel()), float(stride)))
    return torch.cat(centres, dim=1), torch.cat(strides, dim=1)
