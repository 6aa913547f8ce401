"""Opening small models: static shapes, folding, structure, names and refusals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from flashmem_lab.errors import InputError, ModelError, UnsupportedOperators
from flashmem_lab.graph import Graph, fold, open_graph, read_weight
from flashmem_lab.graph.expand import is_steady


def save(tmp_path: Path, text: str, *, name: str = "m.onnx") -> Path:
    """Writes a model given in ONNX's text form."""
    path = tmp_path / name
    path.write_bytes(parser.parse_model(text).SerializeToString())
    return path


def model(body: str, opset: int = 17) -> str:
    return f'<ir_version: 8, opset_import: ["" : {opset}]>\n{body}'


def ops(graph: Graph) -> Counter[str]:
    return Counter(node.op_type for node in graph.nodes)


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


def test_known_branch_is_inlined(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        model("""g (float[N] x) => (float[N] y) {
            shape = Shape (x)
            one = Constant <value_ints = [1]> ()
            many = Greater (shape, one)
            axes = Constant <value_ints = [0]> ()
            condition = Squeeze (many, axes)
            y = If (condition) <
                then_branch = t () => (float[N] r) { h = Neg (x) r = Relu (h) },
                else_branch = e () => (float[N] r) { r = Exp (x) }
            >
        }"""),
    )
    assert [n.op_type for n in open_graph(path, dims={"N": 4}).nodes] == ["Neg", "Relu"]
    taken = open_graph(path, dims={"N": 1})
    assert [n.op_type for n in taken.nodes] == ["Exp"]
    assert taken.nodes[0].outputs == ("y",)


def _unrolled(
    tmp_path: Path, body: str, *, last: str = "total, steps = Loop (many, yes, x)"
) -> Graph:
    return open_graph(
        save(
            tmp_path,
            model(f"""g (float[2] x) => (float[2] total, float[K, 2] steps) {{
                many = Constant <value_int = 3> ()
                yes = Constant <value = bool {{1}}> ()
                {last} <
                    body = b (int64 i, bool on, float[2] v) => (bool more, float[2] w, float[2] s)
                    {{ {body} }}
                >
            }}"""),
        )
    )


def test_a_loop_of_known_length_is_unrolled(tmp_path: Path) -> None:
    graph = _unrolled(
        tmp_path, "more = Identity (on) f = Cast <to = 1> (i) w = Add (v, f) s = Neg (w)"
    )
    assert ops(graph) == {"Add": 3, "Neg": 3, "Unsqueeze": 3, "Concat": 1}
    assert graph.types["steps"].shape == (3, 2)


def test_a_loop_stops_when_its_condition_says_so(tmp_path: Path) -> None:
    body = "one = Constant <value_int = 1> () more = Less (i, one) w = Neg (v) s = Exp (v)"
    graph = _unrolled(tmp_path, body)
    assert (ops(graph)["Neg"], graph.types["steps"].shape) == (2, (2, 2))


def test_a_loop_that_data_steers_is_refused_by_name(tmp_path: Path) -> None:
    body = """zero = Constant <value_float = 0.0> () t = ReduceSum <keepdims = 0> (v)
              more = Greater (t, zero) w = Neg (v) s = Exp (v)"""
    with pytest.raises(UnsupportedOperators, match=r"ai\.onnx::Loop \(total\)") as caught:
        _unrolled(tmp_path, body)
    assert "known when the model is opened" in caught.value.hint


@pytest.mark.parametrize(
    "more",
    [
        "more = Identity (on)",  # settled by the first iteration
        "many_more = Constant <value_int = 90000> () more = Less (i, many_more)",
    ],
)
def test_a_loop_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str
) -> None:
    monkeypatch.setattr(fold, "UNROLLED_LIMIT", 60)
    with pytest.raises(ModelError, match="more than 60 nodes"):
        _unrolled(
            tmp_path, f"{more} w = Neg (v) s = Exp (v)", last='total, steps = Loop ("", yes, x)'
        )


@pytest.mark.parametrize(
    ("body", "steady"),
    [
        ("more = Identity (on)", True),
        ("five = Constant <value_int = 5> () more = Less (i, five)", False),
        ("more = Not (odd) odd = Less (t, zero) t = ReduceSum (v)", False),  # not in order
    ],
)
def test_a_loop_is_steady_if_its_condition_reads_nothing_that_changes(
    body: str, steady: bool
) -> None:
    graph = parser.parse_graph(
        f"b (int64 i, bool on, float[2] v) => (bool more, float[2] w) {{ {body} w = Neg (v) }}"
    )
    assert is_steady(graph) is steady


@pytest.mark.parametrize(
    ("drop", "message"),
    [("else_branch", "has no else_branch"), ("output", "gives 0 values for 1 output")],
)
def test_a_malformed_branch_is_refused_by_name(tmp_path: Path, drop: str, message: str) -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["r"])],
        "b",
        [],
        [] if drop == "output" else [helper.make_empty_tensor_value_info("r")],
    )
    names = ("then_branch", "else_branch")
    branches = {name: branch for name in names if name != drop}
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], name="choice", **branches)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.array(False), "c")],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    with pytest.raises(ModelError, match=message):
        open_graph(path)


def test_attention_opens_as_its_function(tmp_path: Path) -> None:
    text = model(
        """g (float[1, 4, T, 8] q, float[1, 2, T, 8] k) => (float[1, 4, T, 8] y) {
            y = Attention <is_causal = 1> (q, k, k)
        }""",
        23,
    )
    graph = open_graph(save(tmp_path, text), dims={"T": 5})
    found = ops(graph)
    assert (found["Attention"], found["MatMul"], found["Softmax"]) == (0, 2, 1)
    assert found["Shape"] == found["Range"] == 0
    assert graph.types["y"].shape == (1, 4, 5, 8)
    assert all(node.name.startswith("y/") for node in graph.nodes)


def test_branches_may_reuse_names(tmp_path: Path) -> None:
    branch = """(yes) < then_branch = t () => (float[2] r) { h = Neg ({x}) r = Relu (h) },
                        else_branch = e () => (float[2] r) { r = Exp ({x}) } >"""
    path = save(
        tmp_path,
        model(
            """g (float[2] x) => (float[2] y) {
            yes = Constant <value = bool {1}> ()
            a = If """
            + branch.replace("{x}", "x")
            + " y = If "
            + branch.replace("{x}", "a")
            + "}"
        ),
    )
    graph = open_graph(path)
    assert [n.op_type for n in graph.nodes] == ["Neg", "Relu", "Neg", "Relu"]
    outputs = [name for node in graph.nodes for name in node.outputs]
    assert len(set(outputs)) == 4


def test_functions_are_inlined_and_recursion_refused(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
        g (float[2] x) => (float[2] y) {{ y = local.outer (x) }}
        <opset_import: ["" : 17, "local" : 1], domain: "local"> outer (a) => (b)
        {{ h = Neg (a) b = local.{inner} (h) }}
        <opset_import: ["" : 17, "local" : 1], domain: "local"> inner (a) => (b) {{ b = Abs (a) }}
    """
    graph = open_graph(save(tmp_path, text.format(inner="inner")))
    assert [n.op_type for n in graph.nodes] == ["Neg", "Abs"]
    with pytest.raises(ModelError, match="calls itself"):
        open_graph(save(tmp_path, text.format(inner="outer")))


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


@pytest.mark.parametrize("opset", [10, 29])
def test_opsets_out_of_range_are_refused(tmp_path: Path, opset: int) -> None:
    path = save(tmp_path, model("g (float[2] x) => (float[2] y) { y = Relu (x) }", opset))
    with pytest.raises(ModelError, match=f"opset {opset}; opsets 11 to 28"):
        open_graph(path)


@pytest.mark.parametrize("opset", range(11, 29))
def test_opsets_in_range_open(tmp_path: Path, opset: int) -> None:
    path = save(tmp_path, model("g (float[2] x) => (float[2] y) { y = Relu (x) }", opset))
    assert open_graph(path).opset == opset


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
