"""Graphs as other exporters write them: tf2onnx (NHWC between transposes), Paddle (p2o names)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class _Graph:
    """A model in the making: nodes in order, weights drawn from a seed."""

    def __init__(self, opset: int, prefix: str) -> None:
        self.opset, self.prefix = opset, prefix
        self.rng = np.random.default_rng(0)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, array: np.ndarray | list[int] | float) -> str:
        """An initializer; lists become int64 and numbers float32."""
        if not isinstance(array, np.ndarray):
            array = np.array(array, np.float32 if isinstance(array, float) else np.int64)
        name = f"{self.prefix}.const.{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def random(self, *shape: int) -> str:
        """A random float32 weight."""
        return self.weight(self.rng.standard_normal(shape).astype(np.float32))

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """A node; returns its first output, the others have its name with .1, .2 ..."""
        name = f"{self.prefix}.{op}.{len(self.nodes)}"
        names = [name, *(f"{name}.{at}" for at in range(1, outputs))]
        self.nodes.append(helper.make_node(op, inputs, names, name=name, **attributes))
        return name

    def model(self, inputs: dict[str, list[int | str]], *outputs: str) -> bytes:
        """The finished model; every input is float32."""
        graph = helper.make_graph(
            self.nodes,
            self.prefix,
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, shape in inputs.items()
            ],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            self.weights,
        )
        proto = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )
        typed = onnx.shape_inference.infer_shapes(proto)  # runtimes want types of outputs
        return bytes(typed.SerializeToString(deterministic=True))


def _tf_separable() -> bytes:
    """MobileNet's block: explicit Pad, depthwise Conv, batch norm as Mul and Add, Relu6 as Clip."""
    g = _Graph(13, "StatefulPartitionedCall/block")
    x = g.add("Transpose", "input_1:0", perm=[0, 3, 1, 2])
    x = g.add("Pad", x, g.weight([0, 0, 0, 0, 0, 0, 1, 1]))
    x = g.add("Conv", x, g.random(4, 1, 3, 3), group=4, strides=[2, 2], kernel_shape=[3, 3])
    x = g.add("Add", g.add("Mul", x, g.random(1, 4, 1, 1)), g.random(1, 4, 1, 1))
    x = g.add("Clip", x, g.weight(0.0), g.weight(6.0))
    x = g.add("Conv", x, g.random(6, 4, 1, 1), g.random(6), kernel_shape=[1, 1])
    return g.model({"input_1:0": ["unk__8", 8, 8, 4]}, g.add("Transpose", x, perm=[0, 2, 3, 1]))


def _tf_flatten() -> bytes:
    """Shape -> Cast -> Slice -> Concat -> Reshape, as tf.keras.layers.Flatten and Dense become."""
    g = _Graph(15, "model/flatten")
    shape = g.add("Cast", g.add("Shape", "x:0"), to=TensorProto.INT32)
    shape = g.add("Cast", shape, to=TensorProto.INT64)
    batch = g.add("Slice", shape, g.weight([0]), g.weight([1]), g.weight([0]))
    flat = g.add("Reshape", "x:0", g.add("Concat", batch, g.weight([-1]), axis=0))
    y = g.add("Add", g.add("MatMul", flat, g.random(24, 5)), g.random(5))
    return g.model({"x:0": ["batch", 2, 3, 4]}, g.add("Softmax", y, axis=1))


def _tf_layer_norm() -> bytes:
    """LayerNormalization of Keras through moments, SquaredDifference and Rsqrt; NHWC mean."""
    g = _Graph(17, "bert/LayerNorm")
    axes = {"axes": [2], "keepdims": 1}
    mean = g.add("ReduceMean", "x:0", **axes)
    apart = g.add("Sub", "x:0", mean)
    variance = g.add("ReduceMean", g.add("Mul", apart, apart), **axes)
    root = g.add("Sqrt", g.add("Add", variance, g.weight(1e-3)))
    scale = g.add("Mul", g.add("Reciprocal", root), g.random(6))
    shift = g.add("Sub", g.random(6), g.add("Mul", mean, scale))
    return g.model({"x:0": [2, 5, 6]}, g.add("Add", g.add("Mul", "x:0", scale), shift))


def _tf_resize() -> bytes:
    """UpSampling2D: the size as Shape arithmetic, Resize by sizes in asymmetric coordinates."""
    g = _Graph(13, "up_sampling2d")
    x = g.add("Transpose", "x:0", perm=[0, 3, 1, 2])
    space = g.add("Slice", g.add("Shape", x), g.weight([2]), g.weight([4]), g.weight([0]))
    sizes = g.add("Mul", space, g.weight([2, 2]))
    lead = g.add("Slice", g.add("Shape", x), g.weight([0]), g.weight([2]), g.weight([0]))
    sizes = g.add("Concat", lead, sizes, axis=0)
    x = g.add(
        "Resize", x, "", "", sizes, mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor",
    )  # fmt: skip
    return g.model({"x:0": ["n", 3, 4, 2]}, g.add("Transpose", x, perm=[0, 2, 3, 1]))


def _tf_recurrent() -> bytes:
    """A Keras LSTM: Transpose, LSTM, Squeeze, and the last step by Slice."""
    g = _Graph(15, "lstm/PartitionedCall")
    x = g.add("Transpose", "x:0", perm=[1, 0, 2])
    x = g.add("LSTM", x, g.random(1, 20, 3), g.random(1, 20, 5), g.random(1, 40), hidden_size=5)
    x = g.add("Squeeze", x, g.weight([1]))
    last = g.add("Slice", x, g.weight([-1]), g.weight([2**31 - 1]), g.weight([0]))
    return g.model({"x:0": ["n", 6, 3]}, g.add("Squeeze", last, g.weight([0])))


def _paddle_hard_swish() -> bytes:
    """MobileNetV3 of Paddle at opset 11: BatchNormalization, hard swish as HardSigmoid and Mul."""
    g = _Graph(11, "p2o")
    x = g.add("Conv", "x", g.random(8, 3, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1])
    variance = g.weight(np.linspace(0.5, 2, 8, dtype=np.float32))
    x = g.add("BatchNormalization", x, g.random(8), g.random(8), g.random(8), variance)
    x = g.add("Mul", x, g.add("HardSigmoid", x, alpha=1 / 6, beta=0.5))
    pooled = g.add("GlobalAveragePool", x)
    gate = g.add("Conv", pooled, g.random(8, 8, 1, 1))
    gate = g.add("Add", gate, g.add("Reshape", g.random(8), g.weight([1, -1, 1, 1])))
    gate = g.add("Clip", g.add("Add", gate, g.weight(3.0)), g.weight(0.0), g.weight(6.0))
    return g.model(
        {"x": ["DynamicDimension.0", 3, 9, 11]},
        g.add("Mul", x, g.add("Div", gate, g.weight(6.0))),
    )


def _paddle_shapes() -> bytes:
    """Shape arithmetic of PP-OCR's heads: Shape, Cast, Slice, Concat, Reshape, Transpose."""
    g = _Graph(11, "p2o")
    shape = g.add("Cast", g.add("Shape", "x"), to=TensorProto.INT32)
    batch = g.add("Slice", shape, g.weight([0]), g.weight([1]), g.weight([0]))
    width = g.add("Slice", shape, g.weight([3]), g.weight([4]), g.weight([0]))
    heads = g.add("Cast", g.weight([4]), to=TensorProto.INT32)
    rest = g.add("Cast", g.weight([-1]), to=TensorProto.INT32)
    wanted = g.add("Cast", g.add("Concat", batch, heads, rest, width, axis=0), to=TensorProto.INT64)
    x = g.add("Transpose", g.add("Reshape", "x", wanted), perm=[0, 1, 3, 2])
    x = g.add("Squeeze", g.add("Unsqueeze", x, axes=[1]), axes=[1])
    x = g.add("Softmax", x, axis=3)
    return g.model({"x": ["DynamicDimension.0", 8, 2, 5]}, x)


def _paddle_attention() -> bytes:
    """SVTR's mixing block: one product for q, k and v, Split by Slice, scaled and masked."""
    g = _Graph(11, "p2o")
    qkv = g.add("Add", g.add("MatMul", "x", g.random(8, 24)), g.random(24))
    qkv = g.add(
        "Transpose", g.add("Reshape", qkv, g.weight([0, -1, 3, 2, 4])), perm=[2, 0, 3, 1, 4]
    )
    parts = [
        g.add(
            "Squeeze",
            g.add("Slice", qkv, g.weight([at]), g.weight([at + 1]), g.weight([0])),
            axes=[0],
        )
        for at in range(3)
    ]
    query = g.add("Mul", parts[0], g.weight(0.5))
    scores = g.add("MatMul", query, g.add("Transpose", parts[1], perm=[0, 1, 3, 2]))
    mask = np.triu(np.full((1, 1, 6, 6), -np.inf, np.float32), 2)
    scores = g.add("Softmax", g.add("Add", scores, g.weight(mask)), axis=-1)
    mixed = g.add("Transpose", g.add("MatMul", scores, parts[2]), perm=[0, 2, 1, 3])
    return g.model({"x": [2, 6, 8]}, g.add("Reshape", mixed, g.weight([0, -1, 8])))


FOREIGN: dict[str, Callable[[], bytes]] = {
    "separable.tf.13": _tf_separable,
    "flatten.tf.15": _tf_flatten,
    "layer_norm.tf.17": _tf_layer_norm,
    "resize.tf.13": _tf_resize,
    "lstm.tf.15": _tf_recurrent,
    "hard_swish.paddle.11": _paddle_hard_swish,
    "shapes.paddle.11": _paddle_shapes,
    "attention.paddle.11": _paddle_attention,
}
"""What makes each graph, by name."""
