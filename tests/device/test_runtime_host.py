"""Host steps, strided views, and reading rows out of the packed file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pyopencl as cl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from flashmem_lab.errors import CacheCorrupt, InputError, ModelError
from flashmem_lab.lower.layer import Port, View
from flashmem_lab.runtime.opencl import OpenCLRuntime
from flashmem_lab.runtime.opencl.query import find
from flashmem_lab.runtime.opencl.views import landing, read_view, write_view
from flashmem_lab.runtime.pagecache import PageCache, drops
from flashmem_lab.runtime.ports import to_port

Make = Callable[..., Any]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_of_a_table(runtime: OpenCLRuntime, make_host_model: Make, dtype: str) -> None:
    model = make_host_model(index=(2, 3), dtype=dtype)
    index = np.array([[0, 4999, -1], [-5000, 17, 17]])
    result = runtime.run(model.program, model.packed.path, {"index": index}, repeat=2)
    expected = model.table[index].astype(np.float32).transpose()
    assert np.array_equal(result.outputs["y"], expected)
    assert result.outputs["y"].dtype == np.float32


@pytest.mark.parametrize("wrong", [5000, -5001])
def test_row_out_of_range(runtime: OpenCLRuntime, make_host_model: Make, wrong: int) -> None:
    model = make_host_model(index=(2, 1))
    with pytest.raises(InputError, match=f"index {wrong} is outside table"):
        runtime.run(model.program, model.packed.path, {"index": np.array([[1], [wrong]])})


def test_corrupt_block_of_a_table(runtime: OpenCLRuntime, make_host_model: Make) -> None:
    model = make_host_model(index=(1, 1))
    span = model.packed.spans["table"]
    bad = bytearray(model.packed.path.read_bytes())
    bad[span.offset] ^= 1
    model.packed.path.write_bytes(bad)
    last = np.array([[4999]])
    assert runtime.run(model.program, model.packed.path, {"index": last}).outputs
    with pytest.raises(CacheCorrupt, match="table"):
        runtime.run(model.program, model.packed.path, {"index": np.array([[1]])})


def test_node_on_the_host(runtime: OpenCLRuntime, make_host_model: Make) -> None:
    shape = [1, 2, 24]
    graph = helper.make_graph(
        [helper.make_node("Add", ["a", "b"], ["c"])],
        "node",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, shape),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [24]),
        ],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, shape)],
    )
    node = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(node)
    model = make_host_model(index=(1, 2), node=node.SerializeToString())
    index = np.array([[3, 9]])
    result = runtime.run(model.program, model.packed.path, {"index": index})
    expected = model.table[index] + np.arange(24, dtype=np.float32)
    np.testing.assert_allclose(result.outputs["y"], expected, rtol=1e-6)
    kinds = [e.kind for e in result.trace.timeline.events]
    assert kinds == ["rows", "host", "read-output"]


def test_a_shape_that_the_data_decides(runtime: OpenCLRuntime, make_host_model: Make) -> None:
    declared = [1, 2, 24]
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Slice", ["sum", "from", "to", "axis"], ["c"]),
        ],
        "node",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, declared),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [24]),
        ],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, None)],
        [
            helper.make_tensor(name, TensorProto.INT64, [1], [value])
            for name, value in (("from", 0), ("to", 5), ("axis", 2))
        ],
    )
    node = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = make_host_model(index=(1, 2), node=node.SerializeToString())
    with pytest.raises(ModelError, match=r"'c' depends on the data: .*\(1, 2, 5\).*\(1, 2, 24\)"):
        runtime.run(model.program, model.packed.path, {"index": np.array([[3, 9]])})


# --- views ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def queue(device_id: str) -> Iterator[cl.CommandQueue]:
    context = cl.Context([find(device_id)])  # Intel's queues do not keep theirs
    opened = cl.CommandQueue(context)
    yield opened
    opened.finish()


_SHAPES = st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple)


@given(
    shape=_SHAPES,
    order=st.randoms(use_true_random=False),
    gap=st.integers(1, 3),
    offset=st.integers(0, 5),
    flip=st.booleans(),
    dtype=st.sampled_from(["float32", "int64", "bool", "bfloat16"]),
)
def test_strided_views_write_and_read_back(
    queue: cl.CommandQueue,
    shape: tuple[int, ...],
    order: Any,
    gap: int,
    offset: int,
    flip: bool,
    dtype: str,
) -> None:
    """Any permutation with gaps and one reversed axis: its elements change, the rest stay."""
    axes = list(range(len(shape)))
    order.shuffle(axes)
    strides, step = [0] * len(shape), gap
    for axis in reversed(axes):
        strides[axis] = step
        step *= shape[axis]
    if flip and shape:
        offset += (shape[0] - 1) * strides[0]
        strides[0] = -strides[0]
    view = View("b", dtype, offset, shape, tuple(strides))
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, shape).astype(view_dtype(dtype))
    count = offset + step + 8
    before = np.ones(count, view_dtype(dtype))
    buffer = cl.Buffer(queue.context, cl.mem_flags.READ_WRITE, before.nbytes)
    cl.enqueue_copy(queue, buffer, before.view(np.uint8))
    write_view(queue, buffer, view, values)
    read, _ = read_view(queue, buffer, view, landing(view), blocking=True)
    assert np.array_equal(read, values)
    after = np.empty_like(before)
    cl.enqueue_copy(queue, after.view(np.uint8), buffer)
    assert np.count_nonzero(after != before) == np.count_nonzero(values != 1)
    buffer.release()


def view_dtype(name: str) -> np.dtype[Any]:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name) if name == "bfloat16" else name)


def test_output_has_the_users_dtype_and_shape() -> None:
    read = np.arange(6, dtype=np.float32).reshape(2, 3).T
    array = to_port(read, Port("y", "float16", (6,), None))
    assert array.dtype == np.float16
    assert array.tolist() == [0, 3, 1, 4, 2, 5]


# --- the weight file -----------------------------------------------------------------------


def test_a_file_that_does_not_fit_twice_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "weights").write_bytes(bytes(600))
    available = SimpleNamespace(available=1000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: available)
    assert drops(PageCache.AUTO, [tmp_path / "weights"])
    available.available = 1200
    assert not drops(PageCache.AUTO, [tmp_path / "weights"])
