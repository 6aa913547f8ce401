"""Opening what stands for other nodes: branches, loops, functions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from flashmem_lab.errors import ModelError, UnsupportedOperators
from flashmem_lab.graph import Graph, fold, open_graph
from flashmem_lab.graph.expand import is_steady
from tests.unit.onnx_text import model, ops, save


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
    tmp_path: Path,
    body: str,
    *,
    last: str = "total, steps = Loop (many, yes, x)",
    opset: int = 17,
) -> Graph:
    return open_graph(
        save(
            tmp_path,
            model(
                f"""g (float[2] x) => (float[2] total, float[K, 2] steps) {{
                many = Constant <value = int64 {{3}}> ()
                yes = Constant <value = bool {{1}}> ()
                {last} <
                    body = b (int64 i, bool on, float[2] v) => (bool more, float[2] w, float[2] s)
                    {{ {body} }}
                >
            }}""",
                opset,
            ),
        )
    )


@pytest.mark.parametrize("opset", [9, 11, 12, 13, 17])
def test_a_loop_of_known_length_is_unrolled(tmp_path: Path, opset: int) -> None:
    body = "more = Identity (on) f = Cast <to = 1> (i) w = Add (v, f) s = Neg (w)"
    graph = _unrolled(tmp_path, body, opset=opset)
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


def test_functions_of_another_opset_are_converted_or_named(tmp_path: Path) -> None:
    text = """<ir_version: 8, opset_import: ["" : {outer}, "local" : 1]>
        g (float[2, 3] x) => (float[2, 3] y) {{ y = local.f (x, w) }}
        <opset_import: ["" : {inner}], domain: "local"> f (a, k) => (b)
        {{ h = Relu (a) b = MatMul (h, k) }}
    """

    def path(outer: int, inner: int) -> Path:
        proto = parser.parse_model(text.format(outer=outer, inner=inner))
        weight = numpy_helper.from_array(np.ones((3, 3), np.float32), "w")
        proto.graph.initializer.append(weight)
        (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
        return tmp_path / "m.onnx"

    assert [node.op_type for node in open_graph(path(21, 18)).nodes] == ["Relu", "MatMul"]
    with pytest.raises(ModelError, match=r"function 'f' of .*m\.onnx is of another opset"):
        open_graph(path(13, 18))
