"""Steps that run on the host: rows of a table, and nodes that no kernel covers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyopencl as cl

from flashmem_lab.lower.layer import HostCall, RowFetch, View
from flashmem_lab.program.program import HostStep, PackedSpan
from flashmem_lab.runtime.hostcalls import evaluate_call
from flashmem_lab.runtime.opencl.objects import DeviceObjects
from flashmem_lab.runtime.opencl.views import landing, read_view, write_view
from flashmem_lab.runtime.weightfile import WeightFiles


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

    def run(self, step: HostStep) -> tuple[int, cl.Event | None]:
        """Does the step; returns the bytes that it read or wrote, and the event of the last write.

        Raises:
            InputError: an index lies outside its table.
            CacheCorrupt: a weight that it reads is damaged.
            ModelError: the node fails on the host, or an output has not the shape declared.
        """
        if isinstance(step.work, RowFetch):
            return self._fetch_rows(step.work)
        return self._evaluate(step.work)

    def _fetch_rows(self, work: RowFetch) -> tuple[int, cl.Event]:
        index = np.asarray(self._inputs[work.index], np.int64).reshape(-1)
        rows = self._file.take(work.table, index)
        columns = work.output.size // max(1, len(index))
        half = self._spans[work.table].row_bytes == 2 * columns
        values = rows.view(np.float16 if half else np.float32)
        return rows.nbytes, self._write(work.output, values)

    def _evaluate(self, work: HostCall) -> tuple[int, cl.Event | None]:
        arrays: dict[str, np.ndarray] = {}
        for name, view in work.inputs:
            memory, begin = self._objects.buffer(view.ref), self._objects.begin(view.ref)
            read, _ = read_view(
                self._queue, memory, view, landing(view), blocking=True, begin=begin
            )
            arrays[name] = np.ascontiguousarray(read)
        moved = sum(array.nbytes for array in arrays.values())
        moved += sum(self._spans[weight].bytes for _, weight, _, _ in work.weights)
        outputs = evaluate_call(work, arrays, self._file)
        written: cl.Event | None = None
        for name, view in work.outputs:
            written = self._write(view, outputs[name])
            moved += outputs[name].nbytes
        return moved, written

    def _write(self, view: View, values: np.ndarray) -> cl.Event:
        memory, begin = self._objects.buffer(view.ref), self._objects.begin(view.ref)
        return write_view(self._queue, memory, view, values, begin=begin)
