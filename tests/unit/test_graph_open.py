"""Opening small models: static shapes, folding, structure, names and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from flashmem_lab.errors import InputError, ModelError, UnsupportedOperators
from flashmem_lab.graph import open_graph, read_weight
from tests.unit.onnx_text import model, ops, save


def test_shape_arithmetic_is_folded_away(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        model("""g (float[N, 12, L] x) => (float[a, b, c] y) {
            shape = Shape (x)
            zero = Constant <value = int64[1] {0}> ()
            two = Constant <value = int64[1] {2}> ()
            first = Gather <axis = 0> (shape, zero)
            last = Gather <axis = 0> (shape, two)
            twelve = Mul (last, two)
            as_float = Cast <to = 1> (twelve)
            back = Cast <to = 7> (as_float)
            rest = Constant <value_ints = [-1]> ()
            target = Concat <axis = 0> (first, rest, back)
            y = Reshape (x, target)
        }"""),
    )
    graph = open_graph(path, dims={"N": 3, "L": 10})
    assert ops(graph) == {"Reshape": 1}
    assert graph.types["y"].shape == (3, 6, 20)
    assert graph.types["y"].dtype == "float32"
    target = graph.nodes[0].inputs[1]
    np.testing.assert_array_equal(graph.constants[target], [3, -1, 20])


def test_range_fill_and_comparison_make_a_mask(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        model("""g (float[1, T, T] scores) => (float[1, T, T] y) {
            shape = Shape (scores)
            one = Constant <value_int = 1> ()
            zero = Constant <value_int = 0> ()
            length = Gather <axis = 0> (shape, one)
            row = Range (zero, length, one)
            axis = Constant <value_ints = [1]> ()
            column = Unsqueeze (row, axis)
            mask = LessOrEqual (row, column)
            low = Constant <value_float = -1e9> ()
            y = Where (mask, scores, low)
        }"""),
    )
    graph = open_graph(path, dims={"T": 5})
    assert ops(graph) == {"Where": 1}
    mask = graph.constants[graph.nodes[0].inputs[0]]
    np.testing.assert_array_equal(mask, np.tril(np.ones((5, 5), bool)))


def test_identities_vanish_and_outputs_keep_their_names(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        model("""g (float[2, 3] x) => (float[2, 3] y, float[2, 3] z, float[2, 3] same,
                                     float[1] c) {
            a = Identity (x)
            b = Relu (a)
            d = Dropout (b)
            e = Cast <to = 1> (d)
            s = Shape (e)
            f = Reshape (e, s)
            y = Identity (f)
            z = Identity (f)
            same = Identity (a)
            c = Constant <value = float[1] {4.0}> ()
        }"""),
    )
    graph = open_graph(path)
    assert ops(graph) == {"Relu": 1, "Identity": 3}
    assert graph.outputs == ("y", "z", "same", "c")
    made = {name for node in graph.nodes for name in node.outputs}
    assert set(graph.outputs) <= made
    assert graph.types["c"].shape == (1,)


def test_nodes_out_of_order_are_sorted_and_dead_ones_dropped(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        model("""g (float[2] x) => (float[2] y) {
            y = Neg (h)
            dead = com.nobody.Thing (x)
            h = Exp (x)
        }""").replace('["" : 17]', '["" : 17, "com.nobody" : 1]'),
    )
    assert [n.op_type for n in open_graph(path).nodes] == ["Exp", "Neg"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("h = Neg (k) k = Exp (h) y = Add (h, x)", "cycle"),
        ("y = Add (y, x)", "cycle"),
        ("y = Add (x, nothing)", "reads 'nothing'"),
        ("h = Neg (x) h = Exp (x) y = Neg (h)", "defined twice"),
        ("x = Neg (x) y = Neg (x)", "defined twice"),
        ("y = Relu (x, x)", "not valid"),
        ("y = Relu <alpha = 1> (x)", "not valid"),
        ("y = MatMul (x, long)", "not valid"),
        ("h = Identity () y = Relu (h)", "'h' \\(Identity\\) has no input"),
        ('h = Identity ("") y = Relu (h)', "'h' \\(Identity\\) has no input"),
        ('h = Dropout ("") y = Relu (h)', "'h' \\(Dropout\\) has no input"),
        ("h = NonZero (x) g = Cast <to = 1> (h) y = ReduceSum <keepdims = 0> (g)", "depends on"),
        ("h = SequenceConstruct (x) y = ConcatFromSequence <axis = 0> (h)", "sequence"),
        ("s = Constant <value_string = 'a'> () y = Neg (x) z = Identity (s)", None),
        ("s = Constant <value_string = 'a'> () y = Reshape (x, s)", "holds strings"),
        ("h = Cast <to = 8> (x) y = Cast <to = 1> (h)", "STRING"),
    ],
)
def test_bad_graphs_are_refused_by_name(tmp_path: Path, body: str, message: str | None) -> None:
    text = model(f"g (float[2] x, float[5] long) => (float[2] y) {{ {body} }}".replace("'", '"'))
    path = save(tmp_path, text)
    if message is None:
        assert len(open_graph(path).nodes) == 1
        return
    with pytest.raises(ModelError, match=message):
        open_graph(path)


def test_every_unknown_operator_is_named_at_once(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        model("""g (float[2] x, bool c) => (float[2] y) {
            a = com.microsoft.FusedMatMul (x)
            b = NoSuchOp (a)
            d = com.microsoft.FusedMatMul (b)
            e = If (c) < then_branch = t () => (float[2] r) { r = Exp (x) },
                         else_branch = f () => (float[2] r) { r = Neg (x) } >
            y = Add (d, e)
        }""").replace('["" : 17]', '["" : 17, "com.microsoft" : 1]'),
    )
    with pytest.raises(UnsupportedOperators) as caught:
        open_graph(path)
    assert caught.value.operators == [
        "ai.onnx::If (e)",
        "ai.onnx::NoSuchOp (b)",
        "com.microsoft::FusedMatMul (a, d)",
    ]


@pytest.mark.parametrize(
    ("opset", "node", "dtype", "shape"),
    [
        (18, "GroupNormalization <num_groups = 2> (x, s, s)", "float32", (1, 4, 3)),
        (21, "GroupNormalization <num_groups = 2> (x, c, c)", "float32", (1, 4, 3)),
        (13, "MeanVarianceNormalization (x)", "float32", (1, 4, 3)),
        (17, "MeanVarianceNormalization (x)", "float32", (1, 4, 3)),
        (12, "GreaterOrEqual (x, many)", "bool", (5, 4, 3)),
        (12, "LessOrEqual (many, x)", "bool", (5, 4, 3)),
    ],
)
def test_types_that_onnx_does_not_infer(
    tmp_path: Path, opset: int, node: str, dtype: str, shape: tuple[int, ...]
) -> None:
    text = f"""g (float[1, 4, 3] x, float[5, 1, 3] many, float[2] s, float[4] c) => (float[1] z) {{
        y = {node}
        f = Cast <to = 1> (y)
        flat = Constant <value = int64[1] {{-1}}> ()
        all = Reshape (f, flat)
        one = Constant <value = int64[1] {{1}}> ()
        zero = Constant <value = int64[1] {{0}}> ()
        z = Slice (all, zero, one)
    }}"""
    graph = open_graph(save(tmp_path, model(text, opset)))
    assert graph.types["y"].dtype == dtype
    assert graph.types["y"].shape == shape


@pytest.mark.parametrize(
    ("opset", "node", "message"),
    [
        (18, "GroupNormalization <num_groups = 2> (x, x)", "takes 3 inputs"),
        (12, "GreaterOrEqual (x, many)", "not valid"),
    ],
)
def test_nodes_that_onnx_does_not_infer_are_checked(
    tmp_path: Path, opset: int, node: str, message: str
) -> None:
    text = f"g (float[1, 4, 3] x, float[5] many) => (float[1, 4, 3] y) {{ y = {node} }}"
    with pytest.raises(ModelError, match=message):
        open_graph(save(tmp_path, model(text, opset)))


@pytest.mark.parametrize("opset", [6, 29])
def test_opsets_out_of_range_are_refused(tmp_path: Path, opset: int) -> None:
    path = save(tmp_path, model("g (float[2] x) => (float[2] y) { y = Relu (x) }", opset))
    with pytest.raises(ModelError, match=f"opset {opset}; opsets 7 to 28"):
        open_graph(path)


@pytest.mark.parametrize("opset", range(7, 29))
def test_opsets_in_range_open(tmp_path: Path, opset: int) -> None:
    path = save(tmp_path, model("g (float[2] x) => (float[2] y) { y = Relu (x) }", opset))
    assert open_graph(path).opset == max(opset, 11), "older ones are converted"


TWO_INPUTS = model("g (float[N, 3, H] x, float[N, 4] z) => (float[N, 3, H] y) { y = Relu (x) }")


def test_all_open_dimensions_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        open_graph(save(tmp_path, TWO_INPUTS))
    assert "'N'" in str(caught.value)
    assert "'H'" in str(caught.value)
    assert "--dim N=N" in caught.value.hint
    assert "--dim H=N" in caught.value.hint


@pytest.mark.parametrize(
    ("dims", "shapes", "message"),
    [
        ({"N": 2}, {}, "'H'"),
        ({"N": 2, "H": 0}, {}, "at least 1"),
        ({"N": 2, "H": 10**22}, {}, "'H' is 1.*at most 2147483647"),
        ({}, {"x": (2, 3, 2**31)}, "at most 2147483647"),
        ({"N": 2, "Q": 1}, {}, "no dimension named 'Q'"),
        ({}, {"q": (1,)}, "no input named 'q'"),
        ({}, {"x": (2, 3)}, "3 dimensions"),
        ({}, {"x": (2, 5, 7)}, "does not fit"),
        ({}, {"x": (2, -3, 7)}, "not a shape"),
        ({"H": 8}, {"x": (2, 3, 7)}, "'H' is 8"),
        ({}, {"x": (2, 3, 7), "z": (1, 4)}, "'N' is 2"),
    ],
)
def test_bad_dimensions_are_refused(
    tmp_path: Path, dims: dict[str, int], shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        open_graph(save(tmp_path, TWO_INPUTS), dims=dims, shapes=shapes)


def test_a_shape_binds_the_names_in_it(tmp_path: Path) -> None:
    graph = open_graph(save(tmp_path, TWO_INPUTS), shapes={"x": (2, 3, 7)})
    assert graph.inputs == ("x", "z")
    assert graph.types["z"].shape == (2, 4)


def test_nameless_dimensions_need_a_shape(tmp_path: Path) -> None:
    proto = parser.parse_model(TWO_INPUTS)
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    dims[0].dim_value = -1
    dims[2].dim_param = "?"
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError) as caught:
        open_graph(path, dims={"N": 1})
    assert "--shape x=?x3x?" in caught.value.hint
    dims[0].dim_param = "p2o.DynamicDimension.0"
    named = tmp_path / "named.onnx"
    named.write_bytes(proto.SerializeToString())
    with pytest.raises(InputError) as caught:
        open_graph(named, dims={"N": 1})
    assert "--shape x=?x3x?" in caught.value.hint
    assert open_graph(path, dims={"N": 1}, shapes={"x": (1, 3, 8)}).types["y"].shape == (1, 3, 8)


def weights_model(tmp_path: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Two transposed weights, a tied one, per-channel vectors, and a mask buffer that is sliced."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.standard_normal((256, 192)).astype(np.float32),
        "scale": rng.standard_normal(512).astype(np.float32),
        "shift": rng.standard_normal(512).astype(np.float32),
        "mask": np.tril(np.ones((1, 1, 512, 512), bool)),
    }
    nodes = [
        helper.make_node("Transpose", ["w"], ["wt"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "wt"], ["h"]),
        helper.make_node("Add", ["scale", "shift"], ["both"]),
        helper.make_node("Slice", ["mask", "from", "to", "axes"], ["cut"]),
        helper.make_node("Squeeze", ["cut", "front"], ["window"]),
        helper.make_node("Where", ["window", "h", "zero"], ["k"]),
        helper.make_node("MatMul", ["k", "w"], ["m"]),
        helper.make_node("ReduceSum", ["both"], ["total"], keepdims=0),
        helper.make_node("Mul", ["m", "total"], ["y"]),
    ]
    small = {
        "from": np.array([4, 0]),
        "to": np.array([12, 256]),
        "axes": np.array([2, 3]),
        "front": np.array([0, 1]),
        "zero": np.array(0, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 192])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 192])],
        [numpy_helper.from_array(array, name) for name, array in {**arrays, **small}.items()],
    )
    path = tmp_path / "w.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path, arrays


def test_big_weights_stay_references_and_small_ones_fold(tmp_path: Path) -> None:
    path, arrays = weights_model(tmp_path)
    graph = open_graph(path)
    # The transposed weight stays a node; vectors and the window of the mask are computed.
    assert ops(graph) == {"Transpose": 1, "MatMul": 2, "Where": 1, "Mul": 1}
    assert set(graph.weights) == {"w"}
    ref = graph.weights["w"]
    assert ref.file == path
    np.testing.assert_array_equal(read_weight(ref), arrays["w"])
    where = next(node for node in graph.nodes if node.op_type == "Where")
    window = arrays["mask"][0, 0, 4:12, 0:256]
    np.testing.assert_array_equal(graph.constants[where.inputs[0]], window)
    total = next(node for node in graph.nodes if node.op_type == "Mul").inputs[1]
    expected = (arrays["scale"] + arrays["shift"]).sum()
    np.testing.assert_allclose(graph.constants[total], expected, rtol=1e-5)
    for name in (n for node in graph.nodes for n in (*node.inputs, *node.outputs) if n):
        assert name in graph.types


def test_fingerprint_follows_the_model_not_its_place(tmp_path: Path) -> None:
    path, _ = weights_model(tmp_path)
    first = open_graph(path).fingerprint
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    other = moved / "renamed.onnx"
    other.write_bytes(path.read_bytes())
    assert open_graph(other).fingerprint == first
    proto = onnx.load(path)
    proto.graph.node[-1].op_type = "Div"
    onnx.save(proto, other)
    assert open_graph(other).fingerprint != first
    text = TWO_INPUTS
    shapes = [open_graph(save(tmp_path, text), dims={"N": n, "H": 4}).fingerprint for n in (1, 2)]
    assert shapes[0] != shapes[1]


def test_names_and_scopes(tmp_path: Path) -> None:
    proto = parser.parse_model(
        model("""g (float[2] x) => (float[2] y) {
            a = Relu (x) b = Relu (a) c = Neg (b) y = Neg (c)
        }""")
    )
    nodes = proto.graph.node
    nodes[0].name = nodes[1].name = "act"
    nodes[3].name = "/encoder/layer.0/Neg"
    helper.set_model_props(proto, {"alphabet": "abc"})
    for key, value in {
        "namespace": ": Net/encoder: Encoder/encoder.layer.3: Layer/neg: aten.neg",
        "pkg.torch.onnx.name_scopes": "['', 'encoder', 'encoder.layer.3', 'neg']",
    }.items():
        entry = nodes[2].metadata_props.add()
        entry.key, entry.value = key, value
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    graph = open_graph(path)
    names = [node.name for node in graph.nodes]
    assert names[:2] == ["act", "act_1"]
    assert all(names)
    assert len(set(names)) == 4
    assert [node.scope for node in graph.nodes] == ["", "", "encoder.layer.3", "encoder.layer.0"]
    assert graph.metadata == {"alphabet": "abc"}


def test_untyped_metadata_cannot_harm(tmp_path: Path) -> None:
    proto = parser.parse_model(model("g (float[2] x) => (float[2] y) { y = Relu (x) }"))
    entry = proto.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "[" * 5000
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    assert open_graph(path).nodes[0].scope == ""


def test_huge_constant_expressions_are_not_computed(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        model("""g (float[1] x) => (float[A] y) {
            shape = Constant <value_ints = [1000000000000]> ()
            fill = ConstantOfShape (shape)
            y = Add (fill, x)
        }"""),
    )
    graph = open_graph(path)
    assert ops(graph) == {"ConstantOfShape": 1, "Add": 1}
    assert graph.types["y"].shape == (10**12,)
