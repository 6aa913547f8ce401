"""Graphs of unconnected operators: several sizes of each kind that networks are made of.

They go the whole way of any model, so what is measured is what will run: the same lowering, tiles,
textures and runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from flashmem_lab.graph.model import AttributeValue, Graph, Node, TensorType

_OPSET = 20


def sample_graph() -> Graph:
    """The graph; its weights are constants, all alike, since no kernel's time depends on them."""
    made = SampleBuilder("profile")
    made.head()
    for rows, inner, columns in (
        (197, 768, 768), (197, 768, 3072), (197, 3072, 768), (128, 3072, 768), (50, 512, 2048),
        (1024, 320, 320), (1024, 256, 1024), (3136, 96, 288), (784, 768, 192), (1, 2048, 1000),
        (1, 768, 1000), (16384, 32, 32), (4096, 64, 256), (577, 384, 384),
    ):  # fmt: skip
        made.add("MatMul", [(1, rows, inner)], (1, rows, columns), weights=[(inner, columns)])
    for channels, outputs, side, window, stride in (
        (64, 64, 56, 3, 1), (128, 128, 28, 3, 1), (512, 512, 7, 3, 1), (32, 32, 96, 3, 1),
        (256, 64, 56, 1, 1), (64, 256, 56, 1, 1), (256, 1024, 14, 1, 1), (2048, 512, 7, 1, 1),
        (32, 16, 112, 1, 1), (144, 24, 56, 1, 1), (192, 32, 28, 1, 1), (96, 576, 14, 1, 1),
        (480, 80, 14, 1, 1), (672, 160, 7, 1, 1), (160, 960, 7, 1, 1), (768, 256, 64, 1, 1),
        (128, 128, 56, 3, 2), (256, 256, 14, 3, 2), (3, 64, 224, 7, 2), (3, 32, 224, 3, 2),
        (256, 512, 56, 1, 2), (3, 768, 224, 16, 16), (3, 96, 224, 4, 4), (32, 32, 128, 8, 8),
        (160, 160, 32, 2, 2),
    ):  # fmt: skip
        pad = window // 2 if window > stride else 0
        made.add(
            "Conv",
            [(1, channels, side, side)],
            (1, outputs, side // stride, side // stride),
            weights=[(outputs, channels, window, window)],
            strides=(stride, stride),
            pads=(pad, pad, pad, pad),
            kernel_shape=(window, window),
        )
    for rows, inner, columns, approximate in (
        (197, 768, 3072, "none"), (197, 384, 1536, "none"), (577, 384, 1536, "none"),
        (784, 192, 768, "none"), (3136, 96, 384, "none"), (128, 768, 3072, "tanh"),
        (256, 512, 2048, "tanh"), (50, 512, 2048, "none"), (16, 192, 768, "none"),
    ):  # fmt: skip
        made.product_with_gelu(rows, inner, columns, approximate)
    for channels, side, window, activation in (
        (32, 112, 3, "Sigmoid"), (240, 28, 5, "Sigmoid"), (672, 14, 5, "Sigmoid"),
        (256, 64, 3, "Gelu"), (640, 16, 3, "Gelu"), (96, 56, 3, "Gelu"),
    ):  # fmt: skip
        made.activated_convolution(channels, channels, side, window, activation, groups=channels)
    for channels, outputs, side, window in (
        (64, 64, 40, 3), (32, 32, 80, 3), (128, 64, 40, 1), (24, 144, 56, 1), (112, 672, 14, 1),
    ):  # fmt: skip
        made.activated_convolution(channels, outputs, side, window, "Sigmoid")
    for channels, side, window, stride in (
        (144, 56, 3, 1), (576, 14, 3, 1), (144, 56, 3, 2), (960, 7, 3, 1), (384, 28, 5, 1),
        (96, 56, 7, 1), (384, 14, 7, 1),
    ):  # fmt: skip
        pad = window // 2
        made.add(
            "Conv",
            [(1, channels, side, side)],
            (1, channels, side // stride, side // stride),
            weights=[(channels, 1, window, window)],
            group=channels,
            strides=(stride, stride),
            pads=(pad, pad, pad, pad),
            kernel_shape=(window, window),
        )
    for inputs, outputs, side in ((48, 48, 40), (256, 64, 20), (96, 24, 32)):
        made.add(
            "ConvTranspose",
            [(1, inputs, side, side)],
            (1, outputs, side * 2, side * 2),
            weights=[(inputs, outputs, 2, 2)],
            strides=(2, 2),
            kernel_shape=(2, 2),
        )
    for heads, rows, width in ((192, 49, 32), (96, 64, 32)):  # windows of images
        made.attention(heads, rows, width)
    for heads, rows, width in ((12, 197, 64), (8, 256, 40), (12, 128, 64)):
        made.attention(heads, rows, width)
        made.add("MatMul", [(heads, rows, width), (heads, width, rows)], (heads, rows, rows))
        made.add("Softmax", [(heads, rows, rows)], (heads, rows, rows), axis=-1)
    for rows, width in (
        (197, 768), (1024, 320), (128, 2048), (3136, 96), (785, 192), (16384, 32), (50, 512),
    ):  # fmt: skip
        made.add(
            "LayerNormalization",
            [(1, rows, width)],
            (1, rows, width),
            weights=[(width,), (width,)],
            axis=-1,
            epsilon=1e-5,
        )
        made.add("ReduceMax", [(1, rows, width)], (1, rows, 1), axes=(2,), keepdims=1)
    for shape in ((1, 256, 56, 56), (1, 197, 3072), (1, 320, 32, 32)):
        made.add("Add", [shape, shape], shape)
        made.add("Sigmoid", [shape], shape)
    for channels, side in ((32, 112), (144, 56), (672, 14)):  # a factor for each channel
        shape = (1, channels, side, side)
        made.add("Mul", [shape, (1, channels, 1, 1)], shape)
    for channels, side in ((64, 112), (256, 28), (32, 160)):
        made.add(
            "AveragePool", [(1, 8 * channels, side // 8, side // 8)], (1, 8 * channels, 1, 1),
            kernel_shape=(side // 8, side // 8),
        )  # fmt: skip
        made.add(
            "MaxPool", [(1, channels, side, side)], (1, channels, side // 2, side // 2),
            strides=(2, 2), pads=(1, 1, 1, 1),
            kernel_shape=(3, 3),
        )  # fmt: skip
        made.add(
            "Resize", [(1, channels, side, side)], (1, channels, side * 2, side * 2),
            settings={2: np.array([1, 1, 2, 2], np.float32)}, mode="linear",
            coordinate_transformation_mode="half_pixel",
        )  # fmt: skip
    return made.graph()


def products_graph() -> Graph:
    """Products with weights of 1 to 10 MB, no two of one size: none takes another's memory over.

    In networks those of equal blocks do; to leave that out errs on the safe side. A bias goes with
    each, as in networks.
    """
    made = SampleBuilder("products")
    for step in range(24):
        columns = 384 + 128 * (step * 7 % 24)  # large and small ones in turn
        made.add("Gemm", [(192, 768)], (192, columns), weights=[(768, columns), (columns,)])
    return made.graph()


def touching_graph() -> Graph:
    """A sum into memory that is as large as activations of networks for pictures."""
    made = SampleBuilder("touching")
    shape = (1, 64, 256, 256)
    made.add("Add", [shape, (1, 1, 1, 256)], shape)
    return made.graph()


def network_graph(*, behind_head: bool = False) -> Graph:
    """A chain of small layers, no two alike, three of four with a weight and a bias.

    As in networks for phones: convolutions that widen, filter each channel and narrow again, then
    layers of tokens. A run of it is the host's, unless it is behind a head.
    """
    made = SampleBuilder("network")
    if behind_head:
        made.head()
    made.narrowing_blocks(5, channels=32, side=14)
    made.narrowing_blocks(5, channels=144, side=7)
    made.token_blocks(5, rows=16)
    return made.graph()


class SampleBuilder:
    """Collects unconnected operators.

    Args:
        name: of the graph.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[Node] = []
        self._types: dict[str, TensorType] = {}
        self._constants: dict[str, np.ndarray] = {}
        self._inputs: list[str] = []
        self._outputs: list[str] = []

    def graph(self) -> Graph:
        """All of them as one graph."""
        return Graph(
            path=Path(self._name),
            name=self._name,
            opset=_OPSET,
            nodes=tuple(self._nodes),
            types=self._types,
            constants=self._constants,
            weights={},
            inputs=tuple(self._inputs),
            outputs=tuple(self._outputs),
            fingerprint=self._name,
        )

    def add(
        self,
        op_type: str,
        inputs: Sequence[tuple[int, ...]],
        output: tuple[int, ...],
        *,
        weights: Sequence[tuple[int, ...]] = (),
        settings: Mapping[int, np.ndarray] | None = None,
        **attributes: AttributeValue,
    ) -> str:
        """An operator with inputs, weights and an output of its own; returns its name."""
        names = [self._input(shape) for shape in inputs]
        names += [self._weight(*shape) for shape in weights]
        for position, value in (settings or {}).items():
            names += [""] * (position - len(names)) + [self._constant(value)]
        self._outputs.append(self._node(op_type, names, output, attributes))
        return self._outputs[-1]

    def head(self) -> None:
        """A product that takes so long that the host is done when the next layer begins.

        On a CPU the host's work takes a core from the first layers of a run.
        """
        self.add("MatMul", [(1, 1024, 2048)], (1, 1024, 2048), weights=[(2048, 2048)])

    def attention(self, heads: int, rows: int, width: int) -> None:
        """Scaled products of queries and keys, softmax, and products with values."""
        shape, scores = (heads, rows, width), (heads, rows, rows)
        queries, keys, values = (
            self._heads(heads, rows, width, order) for order in ((1, 0, 2), (1, 2, 0), (1, 0, 2))
        )
        scale = self._constant(np.array(width**-0.5, np.float32))
        found = self._node("MatMul", [queries, keys], scores, {})
        found = self._node("Mul", [found, scale], scores, {})
        found = self._node("Softmax", [found], scores, {"axis": -1})
        self._outputs.append(self._node("MatMul", [found, values], shape, {}))

    def _heads(self, heads: int, rows: int, width: int, order: tuple[int, int, int]) -> str:
        """An input as products give it, row by row with its heads side by side, seen by heads."""
        found = self._input((rows, heads * width))
        apart = (rows, heads, width)
        found = self._node("Reshape", [found, self._constant(np.array(apart, np.int64))], apart, {})
        shape = tuple(apart[axis] for axis in order)
        return self._node("Transpose", [found], shape, {"perm": order})

    def product_with_gelu(self, rows: int, inner: int, columns: int, approximate: str) -> None:
        """A product whose results pass GELU."""
        value, shape = self._input((rows, inner)), (rows, columns)
        found = self._node("MatMul", [value, self._weight(inner, columns)], shape, {})
        self._outputs.append(self._node("Gelu", [found], shape, {"approximate": approximate}))

    def activated_convolution(
        self,
        inputs: int,
        outputs: int,
        side: int,
        window: int,
        activation: str,
        *,
        groups: int = 1,
    ) -> None:
        """A convolution and an activation: "Gelu", or "Sigmoid" for SiLU."""
        value, shape = self._input((1, inputs, side, side)), (1, outputs, side, side)
        found = self._convolution(value, inputs, outputs, side, window=window, groups=groups)
        active = self._node(activation, [found], shape, {})
        if activation == "Sigmoid":
            active = self._node("Mul", [found, active], shape, {})
        self._outputs.append(active)

    def narrowing_blocks(self, count: int, channels: int, side: int) -> None:
        """Convolutions in threes, of a window of 1, of 3 for each channel, and of 1; and a pool."""
        least = channels
        value = self._input((1, channels, side, side))
        for block in range(count):
            wide, narrow = 4 * channels, least + 8 * ((block * 2 + 3) % count)
            value = self._convolution(value, channels, wide, side)
            value = self._convolution(value, wide, wide, side, window=3, groups=wide)
            value = self._convolution(value, wide, narrow, side)
            settings: dict[str, AttributeValue] = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
            value = self._node("MaxPool", [value], (1, narrow, side, side), settings)
            channels = narrow
        self._outputs.append(value)

    def token_blocks(self, count: int, rows: int) -> None:
        """Normalisation, softmax, and two products around an activation, added to what was."""
        width = 64
        shape = (rows, width)
        value = self._input(shape)
        for block in range(count):
            inner = 192 + 32 * block
            scale, shift = self._weight(width), self._weight(width)
            settings: dict[str, AttributeValue] = {"axis": -1, "epsilon": 1e-5}
            found = self._node("LayerNormalization", [value, scale, shift], shape, settings)
            found = self._node("Softmax", [found], shape, {"axis": -1})
            weights = [self._weight(width, inner), self._weight(inner)]
            found = self._node("Gemm", [found, *weights], (rows, inner), {})
            found = self._node("Sigmoid", [found], (rows, inner), {})
            weights = [self._weight(inner, width), self._weight(width)]
            found = self._node("Gemm", [found, *weights], shape, {})
            value = self._node("Add", [value, found], shape, {})
        self._outputs.append(value)

    def _convolution(
        self, value: str, inputs: int, outputs: int, side: int, *, window: int = 1, groups: int = 1
    ) -> str:
        kernel = self._weight(outputs, inputs // groups, window, window)
        pad = window // 2
        return self._node(
            "Conv",
            [value, kernel, self._weight(outputs)],
            (1, outputs, side, side),
            {
                "strides": (1, 1),
                "pads": (pad, pad, pad, pad),
                "kernel_shape": (window, window),
                "group": groups,
            },
        )

    def _weight(self, *shape: int) -> str:
        return self._constant(np.full(shape, 0.01, np.float32))

    def _input(self, shape: tuple[int, ...]) -> str:
        name = f"x{len(self._inputs)}"
        self._inputs.append(name)
        self._types[name] = TensorType("float32", shape)
        return name

    def _constant(self, value: np.ndarray) -> str:
        name = f"c{len(self._constants)}"
        self._constants[name] = value
        self._types[name] = TensorType(value.dtype.name, value.shape)
        return name

    def _node(
        self,
        op_type: str,
        inputs: Sequence[str],
        shape: tuple[int, ...],
        attributes: Mapping[str, AttributeValue],
    ) -> str:
        name = f"{op_type}.{len(self._nodes)}"
        self._nodes.append(Node(name, op_type, "", tuple(inputs), (name,), attributes))
        self._types[name] = TensorType("float32", shape)
        return name
