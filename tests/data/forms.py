"""What exporters are asked to write: one small torch module for each thing that models are made of.

Inputs of integers are drawn from 0 to 3 and of floats from the normal distribution by whoever runs
the exported graph, so every index must be valid for 0 to 3.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own habit)

Made = tuple["nn.Module | Callable[..., object]", *tuple[Tensor, ...]]
"""A module (or a function of tensors) and its inputs."""


def real(*shape: int) -> Tensor:
    """A float input."""
    return torch.randn(shape)


def index(*shape: int) -> Tensor:
    """An int64 input."""
    return torch.randint(0, 4, shape)


def flags(*shape: int) -> Tensor:
    """A boolean input."""
    return torch.rand(shape) > 0.5


class RMSNorm(nn.Module):
    """As Llama's own code writes it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(size) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        squares = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(squares + 1e-6))


def _half_turned(x: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)


class Rotary(nn.Module):
    """Rotary embedding of queries and keys, positions as an input (Llama, GPT-NeoX)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        steps = 1.0 / 10000 ** (torch.arange(0, size, 2).float() / size)
        self.register_buffer("steps", steps)

    def forward(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        angles = (self.steps[None, :, None] @ positions[:, None, :].float()).transpose(1, 2)
        turn = torch.cat((angles, angles), dim=-1)
        cos, sin = turn.cos()[:, None], turn.sin()[:, None]
        return q * cos + _half_turned(q) * sin, k * cos + _half_turned(k) * sin


def rotary_interleaved(x: Tensor) -> Tensor:
    """Rotary embedding of neighbouring pairs (GPT-J, Flux)."""
    angles = torch.arange(x.shape[2])[:, None] / 100.0 ** (torch.arange(x.shape[3] // 2) / 4)
    even, odd = x[..., ::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class GroupedQueries(nn.Module):
    """Attention of four query heads over two key heads, causal, with its four projections."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.o = nn.Linear(16, 16), nn.Linear(16, 16)
        self.k, self.v = nn.Linear(16, 8), nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        q = self.q(x).view(batch, tokens, 4, 4).transpose(1, 2)
        k, v = (
            part.view(batch, tokens, 2, 1, 4)
            .expand(-1, -1, -1, 2, -1)
            .reshape(batch, tokens, 4, 4)
            .transpose(1, 2)
            for part in (self.k(x), self.v(x))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(mixed.transpose(1, 2).reshape(batch, tokens, 16))


class SelfAttention(nn.Module):
    """torch's own module with query, key and value alike."""

    def __init__(self, *, masked: bool) -> None:
        super().__init__()
        self.inner = nn.MultiheadAttention(8, 2, batch_first=True)
        mask = torch.triu(torch.full((5, 5), float("-inf")), 1) if masked else None
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x, x, x, need_weights=False, attn_mask=self.mask)[0]


def masked_by_rows(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention where whole rows may be masked: exporters guard them with IsNaN."""
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])


def windows(x: Tensor) -> Tensor:
    """Swin's windows and back, rolled."""
    rolled = torch.roll(x, (-1, -2), (1, 2))
    n, h, w, c = x.shape
    parts = rolled.view(n, h // 2, 2, w // 2, 2, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, c)
    parts = parts.softmax(1)
    back = parts.view(n, h // 2, w // 2, 2, 2, c).permute(0, 1, 3, 2, 4, 5)
    return torch.roll(back.reshape(n, h, w, c), (1, 2), (1, 2))


class Recurrent(nn.Module):
    """A recurrent module's sequence output."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


class Squeezed(nn.Module):
    """Squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Conv2d(6, 2, 1), nn.Conv2d(2, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * self.widen(F.silu(self.narrow(scale))).sigmoid()


class Embedded(nn.Module):
    """Tokens and positions, as the first lines of every language model."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(11, 8), nn.Embedding(9, 8)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)[None]
        return self.tokens(ids) + self.places(places)


def convolved(inner: nn.Module, *shape: int) -> Callable[[], Made]:
    """A convolution and an activation on an input of `shape`."""
    return lambda: (nn.Sequential(inner, nn.ReLU()), real(*shape))


def resized(**options: object) -> Callable[[], Made]:
    """Interpolation of a small picture."""
    return lambda: ((lambda x: F.interpolate(x, **options)), real(1, 2, 5, 7))


ACTIVATIONS: dict[str, Callable[[], Made]] = {
    "gelu_erf": lambda: (nn.GELU(), real(2, 3, 7)),
    "gelu_tanh": lambda: (nn.GELU(approximate="tanh"), real(2, 3, 7)),
    "gelu_quick": lambda: ((lambda x: x * torch.sigmoid(1.702 * x)), real(2, 3, 7)),
    "silu": lambda: (nn.SiLU(), real(2, 3, 7)),
    "hard_swish": lambda: (nn.Hardswish(), real(2, 3, 7)),
    "hard_sigmoid": lambda: (nn.Hardsigmoid(), real(2, 3, 7)),
    "mish": lambda: (nn.Mish(), real(2, 3, 7)),
    "prelu": lambda: (nn.PReLU(3), real(2, 3, 7)),
    "elu_and_others": lambda: (
        nn.Sequential(nn.ELU(), nn.SELU(), nn.CELU(0.7), nn.LeakyReLU(0.2), nn.Softplus()),
        real(2, 3, 7),
    ),
    "relu6": lambda: (nn.ReLU6(), real(2, 3, 7) * 4),
    "glu": lambda: (nn.GLU(dim=1), real(2, 6, 7)),
    "clamp": lambda: ((lambda x: x.clamp(-0.5, 0.7) + x.clamp(min=0.1)), real(2, 3, 7)),
    "softmax": lambda: ((lambda x: F.softmax(x, 1) + F.log_softmax(x, -1)), real(2, 3, 7)),
    "logsumexp": lambda: ((lambda x: torch.logsumexp(x, (1, 2))), real(2, 3, 7)),
}

NORMALISATIONS: dict[str, Callable[[], Made]] = {
    "layer_norm": lambda: (nn.LayerNorm(7), real(2, 3, 7)),
    "layer_norm_2_axes": lambda: (nn.LayerNorm((3, 7), bias=False), real(2, 3, 7)),
    "layer_norm_channels_first": lambda: (
        (lambda x: F.layer_norm(x.permute(0, 2, 3, 1), (6,)).permute(0, 3, 1, 2)),
        real(1, 6, 4, 5),
    ),
    "rms_norm": lambda: (nn.RMSNorm(7), real(2, 3, 7)),
    "rms_norm_by_hand": lambda: (RMSNorm(7), real(2, 3, 7)),
    "group_norm": lambda: (nn.GroupNorm(3, 6), real(2, 6, 4, 5)),
    "group_norm_3d": lambda: (nn.GroupNorm(2, 6), real(2, 6, 9)),
    "instance_norm": lambda: (nn.InstanceNorm2d(4, affine=True), real(2, 4, 5, 6)),
    "batch_norm": lambda: (nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)), real(1, 3, 6, 6)),
    "batch_norm_alone": lambda: (nn.BatchNorm1d(5), real(2, 5, 6)),
    "local_response": lambda: (nn.LocalResponseNorm(3), real(1, 5, 4, 4)),
    "l2_normalise": lambda: ((lambda x: F.normalize(x, dim=-1)), real(2, 3, 7)),
    "std": lambda: (
        (lambda x: (x - x.mean(1, True)) / (x.std(1, keepdim=True) + 1)),
        real(2, 3, 7),
    ),
}

ATTENTION: dict[str, Callable[[], Made]] = {
    "multihead": lambda: (SelfAttention(masked=False), real(2, 5, 8)),
    "multihead_masked": lambda: (SelfAttention(masked=True), real(2, 5, 8)),
    "encoder_layer": lambda: (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True),
        real(2, 5, 8),
    ),
    "sdpa": lambda: (F.scaled_dot_product_attention, *(real(1, 2, 5, 4) for _ in "qkv")),
    "sdpa_causal": lambda: (
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True)),
        *(real(1, 2, 5, 4) for _ in "qkv"),
    ),
    "sdpa_boolean": lambda: (masked_by_rows, *(real(2, 2, 5, 4) for _ in "qkv"), flags(2, 5)),
    "sdpa_float": lambda: (masked_by_rows, *(real(2, 2, 5, 4) for _ in "qkv"), real(2, 5)),
    "sdpa_scaled": lambda: (
        (lambda q, k, v: F.scaled_dot_product_attention(q, k, v, scale=0.3)),
        real(2, 3, 5, 4),
        real(2, 3, 6, 4),
        real(2, 3, 6, 7),
    ),
    "grouped_queries": lambda: (GroupedQueries(), real(2, 5, 16)),
    "rotary": lambda: (Rotary(8), real(2, 3, 5, 8), real(2, 3, 5, 8), index(2, 5)),
    "rotary_interleaved": lambda: (rotary_interleaved, real(1, 2, 5, 8)),
    "embedding": lambda: (Embedded(), index(2, 5)),
    "causal_by_hand": lambda: (
        (lambda x: x.masked_fill(torch.ones(5, 5).tril()[None] == 0, float("-inf")).softmax(-1)),
        real(2, 5, 5),
    ),
}

CONVOLUTIONS: dict[str, Callable[[], Made]] = {
    "conv1d": convolved(nn.Conv1d(3, 5, 3, stride=2, padding=1), 2, 3, 9),
    "conv2d": convolved(nn.Conv2d(3, 5, 3, padding=1), 1, 3, 7, 9),
    "conv2d_same": convolved(nn.Conv2d(3, 5, 4, padding="same"), 1, 3, 7, 9),
    "conv2d_reflect": convolved(nn.Conv2d(3, 5, 3, padding=1, padding_mode="reflect"), 1, 3, 7, 9),
    "conv2d_circular": convolved(
        nn.Conv2d(3, 5, 3, padding=1, padding_mode="circular"), 1, 3, 7, 9
    ),
    "conv3d": convolved(nn.Conv3d(2, 5, 3, stride=(1, 2, 2), padding=1), 1, 2, 5, 6, 7),
    "conv3d_patches": convolved(nn.Conv3d(3, 8, (2, 4, 4), stride=(2, 4, 4)), 1, 3, 4, 8, 8),
    "depthwise": convolved(nn.Conv2d(6, 6, 3, padding=1, groups=6), 1, 6, 7, 5),
    "depthwise1d": convolved(nn.Conv1d(6, 6, 5, padding=2, groups=6), 1, 6, 11),
    "dilated": convolved(nn.Conv2d(3, 4, 3, dilation=2, padding=2), 1, 3, 7, 7),
    "grouped": convolved(nn.Conv2d(6, 10, 3, groups=2, bias=False), 1, 6, 7, 7),
    "transposed1d": convolved(
        nn.ConvTranspose1d(4, 3, 4, stride=2, padding=1, output_padding=1), 1, 4, 6
    ),
    "transposed2d": convolved(
        nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1), 1, 4, 5, 6
    ),
    "transposed3d": convolved(nn.ConvTranspose3d(2, 3, 2, stride=2), 1, 2, 3, 4, 4),
    "squeeze_and_excitation": lambda: (Squeezed(), real(1, 6, 5, 5)),
    "max_pool": lambda: (nn.MaxPool2d(3, 2, 1, ceil_mode=True), real(1, 3, 8, 10)),
    "max_pool_dilated": lambda: (nn.MaxPool2d(2, 2, dilation=2), real(1, 3, 9, 10)),
    "max_pool1d": lambda: (nn.MaxPool1d(3), real(1, 3, 10)),
    "max_pool3d": lambda: (nn.MaxPool3d(2, 1, 1), real(1, 2, 4, 5, 6)),
    "average_pool": lambda: (nn.AvgPool2d(3, 2, 1), real(1, 3, 8, 10)),
    "average_pool_ceil": lambda: (
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        real(1, 3, 8, 10),
    ),
    "average_pool3d": lambda: (nn.AvgPool3d(2), real(1, 2, 4, 5, 6)),
    "adaptive_average": lambda: (
        (lambda x: F.adaptive_avg_pool2d(x, (2, 5)) + F.adaptive_avg_pool2d(x, 1)),
        real(1, 3, 8, 10),
    ),
    "adaptive_max": lambda: (nn.AdaptiveMaxPool2d((2, 5)), real(1, 3, 8, 10)),
}

RESIZES: dict[str, Callable[[], Made]] = {
    "nearest": resized(scale_factor=2, mode="nearest"),
    "nearest_down": resized(size=(3, 5), mode="nearest"),
    "bilinear": resized(scale_factor=1.7, mode="bilinear"),
    "bilinear_corners": resized(size=(9, 11), mode="bilinear", align_corners=True),
    "bicubic": resized(size=(9, 11), mode="bicubic"),
    "bicubic_corners": resized(size=(9, 11), mode="bicubic", align_corners=True),
    "antialias": resized(size=(3, 4), mode="bilinear", antialias=True),
    "area": resized(scale_factor=0.5, mode="area", recompute_scale_factor=True),
    "linear": lambda: ((lambda x: F.interpolate(x, size=11, mode="linear")), real(1, 2, 7)),
    "nearest3d": lambda: ((lambda x: F.interpolate(x, scale_factor=2)), real(1, 2, 3, 4, 5)),
    "pixel_shuffle": lambda: (nn.PixelShuffle(2), real(1, 8, 3, 4)),
    "pixel_unshuffle": lambda: (nn.PixelUnshuffle(2), real(1, 2, 6, 4)),
    "pad_constant": lambda: ((lambda x: F.pad(x, (1, 2, 0, 1), value=0.5)), real(1, 2, 3, 4)),
    "pad_reflect": lambda: ((lambda x: F.pad(x, (1, 2, 1, 1), "reflect")), real(1, 2, 3, 4)),
    "pad_replicate": lambda: ((lambda x: F.pad(x, (1, 2, 1, 1), "replicate")), real(1, 2, 3, 4)),
    "pad_negative": lambda: ((lambda x: F.pad(x, (-1, 2, 1, -1))), real(1, 2, 3, 4)),
    "grid_sample": lambda: (
        (lambda x, g: F.grid_sample(x, g.tanh(), align_corners=False)),
        real(1, 2, 4, 5),
        real(1, 3, 3, 2),
    ),
    "unfold": lambda: (nn.Unfold(2, stride=2), real(1, 3, 4, 6)),
}

MOVES: dict[str, Callable[[], Made]] = {
    "einsum_attention": lambda: (
        (lambda q, k: torch.einsum("bhid,bhjd->bhij", q, k)),
        real(1, 2, 5, 4),
        real(1, 2, 6, 4),
    ),
    "einsum_outer": lambda: (
        (lambda a, b: torch.einsum("i,j->ij", a, b)),
        real(5),
        real(6),
    ),
    "einsum_relative": lambda: (
        (lambda q, r: torch.einsum("bhwc,hkc->bhwk", q, r)),
        real(2, 3, 4, 5),
        real(3, 6, 5),
    ),
    "einsum_of_three": lambda: (
        (lambda a, b, c: torch.einsum("ij,jk,kl->il", a, b, c)),
        real(3, 4),
        real(4, 5),
        real(5, 2),
    ),
    "gather": lambda: ((lambda x, i: x.gather(1, i)), real(3, 5), index(3, 2)),
    "take": lambda: ((lambda x, i: x[:, i]), real(3, 5, 2), index(4)),
    "index_two": lambda: ((lambda x, i, j: x[i, j]), real(5, 6, 2), index(4), index(4)),
    "index_select": lambda: ((lambda x, i: x.index_select(2, i)), real(3, 4, 5), index(6)),
    "index_mask": lambda: (
        (lambda x: x[:, torch.tensor([True, False, True])]),
        real(2, 3, 4),
    ),
    "index_put": lambda: (
        (lambda x, v: torch.index_put(x, (torch.tensor([0, 2]),), v)),
        real(4, 3),
        real(2, 3),
    ),
    "assign_slice": lambda: (_assigned, real(2, 4, 3)),
    "scatter": lambda: (
        (lambda x, i, v: x.scatter(1, i, v)),
        real(3, 5),
        torch.tensor([[0, 2], [1, 3], [3, 0]]),
        real(3, 2),
    ),
    "scatter_add": lambda: (
        (lambda x, i, v: x.scatter_add(0, i, v)),
        real(4, 5),
        index(2, 5),
        real(2, 5),
    ),
    "masked_fill": lambda: ((lambda x, m: x.masked_fill(m, -3.0)), real(2, 3, 4), flags(3, 4)),
    "topk": lambda: ((lambda x: x.topk(3, dim=1)), real(2, 7)),
    "sort": lambda: ((lambda x: x.sort(dim=-1)), real(2, 7)),
    "argmax": lambda: ((lambda x: (x.argmax(1), x.argmin(-1))), real(2, 7, 3)),
    "max_with_index": lambda: ((lambda x: x.max(1)), real(2, 7, 3)),
    "reductions": lambda: (
        (lambda x: x.sum(1) + x.amax(1) - x.amin(1) + x.prod(1) + x.norm(dim=1)),
        real(2, 4, 3),
    ),
    "any_all": lambda: ((lambda x: (x > 0).any(1) & ~(x > 1).all(1)), real(2, 4, 3)),
    "cumsum": lambda: ((lambda x: x.cumsum(1)), real(2, 7)),
    "positions_by_cumsum": lambda: (
        (lambda i: torch.cumsum((i != 1).int(), 1).type_as(i) * (i != 1) + 1),
        index(2, 7),
    ),
    "casts": lambda: (
        (lambda x, i: (x.to(torch.int64) + i, i.float() * 0.5, (x > 0).to(torch.int32), x.half())),
        real(2, 5) * 3,
        index(2, 5),
    ),
    "integers": lambda: (
        (lambda i: ((i * 3 + 7) // 2 % 5, i // -3, -i - 2, torch.remainder(i - 2, 3))),
        index(2, 5),
    ),
    "floor_divide": lambda: ((lambda x: (x // 0.3, x % 0.7, torch.fmod(x, 0.7))), real(2, 5)),
    "where": lambda: ((lambda x, y: torch.where(x > y, x, y * 2)), real(2, 5), real(5)),
    "compare": lambda: (
        (lambda x, y: ((x >= y) | (x != x)) & (y < 1) ^ torch.isnan(x)),
        real(2, 5),
        real(5),
    ),
    "roll": lambda: ((lambda x: torch.roll(x, (2, -1), (1, 2))), real(1, 5, 6)),
    "windows": lambda: (windows, real(1, 4, 6, 3)),
    "chunks": lambda: (
        (lambda x: torch.stack([p * (n + 1.0) for n, p in enumerate(x.chunk(3, 1))], 2)),
        real(2, 8, 3),
    ),
    "split": lambda: (
        (lambda x: torch.cat([p.tanh() for p in x.split([1, 4, 2], 2)][::-1], 2)),
        real(1, 2, 7),
    ),
    "cat_of_ten": lambda: (
        (lambda x: torch.cat([x * float(n) for n in range(10)], 1)),
        real(2, 3),
    ),
    "flatten": lambda: (nn.Sequential(nn.Flatten(), nn.Linear(12, 5)), real(2, 3, 4)),
    "unbind": lambda: ((lambda x: x.unbind(1)[1] + x.unbind(1)[0]), real(2, 3, 4)),
    "repeat": lambda: (
        (lambda x: x.repeat(1, 2, 3) + x.repeat_interleave(2, 1).repeat(1, 1, 3)),
        real(2, 3, 4),
    ),
    "flip": lambda: ((lambda x: x.flip(1, 2)), real(2, 3, 4)),
    "triangle": lambda: ((lambda x: x.tril() + x.triu(1) * 2), real(2, 4, 4)),
    "tokens_at_the_end": lambda: (
        (lambda x, i: x[torch.arange(2), i.argmax(-1)]),
        real(2, 5, 3),
        index(2, 5),
    ),
    "shape_arithmetic": lambda: (
        (lambda x: x.reshape(x.shape[0], -1, x.shape[3] * 2)[:, : x.shape[1] // 2]),
        real(2, 4, 3, 5),
    ),
    "bilinear_product": lambda: (
        (lambda a, b: a @ b + torch.bmm(a, b)),
        real(2, 3, 4),
        real(2, 4, 5),
    ),
    "vector_product": lambda: ((lambda a, b: (a @ b, b @ a.transpose(0, 1))), real(3, 4), real(4)),
    "complex_free_trigonometry": lambda: (
        (lambda x: torch.atan2(x, x + 3) + x.sin().asin() + x.exp().log1p() + x.expm1()),
        real(2, 5),
    ),
}

RECURRENT: dict[str, Callable[[], Made]] = {
    "lstm": lambda: (Recurrent(nn.LSTM(4, 5, bidirectional=True, batch_first=True)), real(2, 6, 4)),
    "lstm_two_layers": lambda: (Recurrent(nn.LSTM(4, 5, num_layers=2)), real(6, 2, 4)),
    "gru": lambda: (Recurrent(nn.GRU(4, 5, bidirectional=True)), real(6, 2, 4)),
    "rnn": lambda: (Recurrent(nn.RNN(4, 5)), real(6, 2, 4)),
}


def _assigned(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] = 0.5
    y[..., 0] *= 2
    return y


FORMS = ACTIVATIONS | NORMALISATIONS | ATTENTION | CONVOLUTIONS | RESIZES | MOVES | RECURRENT
"""What makes each form, by name; called under a fixed seed, so that weights never change."""
