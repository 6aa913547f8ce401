"""Steps that run on the host: rows of a table, and nodes that no kernel covers."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np
import pyopencl as cl

from flashmem_lab.errors import ModelError
from flashmem_lab.lower.layer import HostCall, RowFetch
from flashmem_lab.program.program import HostStep, PackedSpan
from flashmem_lab.program.sources import dtype_of
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.opencl.views import landing, read_view, write_view
from flashmem_lab.runtime.opencl.weightfile import WeightFiles


class HostSide:
    """Runs host steps; what they read of the device is complete, as the queue runs in order.

    Args:
        queue: the compute queue.
        objects: where the views' buffers are found.
        file: the packed weights.
        spans: where each weight lies.
        inputs: the user's arrays, checked.
    """

    def __init__(
        self,
        queue: cl.CommandQueue,
        objects: DeviceObjects,
        file: WeightFiles,
        spans: Mapping[str, PackedSpan],
        inputs: Mapping[str, np.ndarray],
    ) -> None:
        self._queue = queue
        self._objects = objects
        self._file = file
        self._spans = spans
        self._inputs = inputs

    def run(self, step: HostStep) -> int:
        """Does the step; returns the bytes that it read or wrote.

        Raises:
            InputError: an index lies outside its table.
            CacheCorrupt: a weight that it reads is damaged.
            ModelError: the node fails on the host, or an output has not the shape declared.
        """
        if isinstance(step.work, RowFetch):
            return self._fetch_rows(step.work)
        return self._evaluate(step.work)

    def _fetch_rows(self, work: RowFetch) -> int:
        index = np.asarray(self._inputs[work.index], np.int64).reshape(-1)
        rows = self._file.take(work.table, index)
        columns = work.output.size // max(1, len(index))
        half = self._spans[work.table].row_bytes == 2 * columns
        values = rows.view(np.float16 if half else np.float32)
        write_view(self._queue, self._objects.buffer(work.output.ref), work.output, values)
        return rows.nbytes

    def _evaluate(self, work: HostCall) -> int:
        # ONNX and its runtime take a tenth of a second and 50 MB: only for models that need them.
        from flashmem_lab.graph.evaluate import evaluate

        arrays: dict[str, np.ndarray] = {}
        for name, view in work.inputs:
            memory = self._objects.buffer(view.ref)
            read, _ = read_view(self._queue, memory, view, landing(view), blocking=True)
            arrays[name] = np.ascontiguousarray(read)
        for name, weight, dtype, shape in work.weights:
            raw = self._file.whole(weight)
            arrays[name] = raw[: prod(shape) * dtype_of(dtype).itemsize].view(dtype_of(dtype))
            arrays[name] = arrays[name].reshape(shape)
        moved = sum(array.nbytes for array in arrays.values())
        outputs = evaluate(work.model, arrays)
        for name, view in work.outputs:
            if outputs[name].shape != view.shape:
                raise ModelError(
                    f"the shape of {name!r} depends on the data: here it is "
                    f"{outputs[name].shape}, and the model declares {view.shape}",
                    hint="only graphs whose shapes follow from the input shapes can be run",
                )
            write_view(self._queue, self._objects.buffer(view.ref), view, outputs[name])
            moved += outputs[name].nbytes
        return moved
