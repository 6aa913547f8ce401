"""The part of the program check that looks at single objects, spans, views and launches."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import NoReturn

import numpy as np

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import PlanError
from flashmem_lab.lower.layer import HostCall, OperatorClass, RowFetch, View
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import (
    ComputeCommand,
    DeviceObject,
    HostStep,
    Launch,
    Move,
    ObjectKind,
    PackedSpan,
    Program,
    ReadOutput,
    WriteInput,
)
from flashmem_lab.program.sources import dtype_of

_IMAGE_ITEM = {"float32": 4, "float16": 2}
_CHANNELS = 4
_ARG_TYPES: dict[str, tuple[type, ...]] = {"object": (str,), "int": (int,), "float": (int, float)}


def refuse(what: str) -> NoReturn:
    """Raises the PlanError of a program that breaks a rule."""
    raise PlanError(f"the program is not sound: {what}", hint="build it anew from model and plan")


def touched(command: ComputeCommand) -> list[str]:
    """Names of the device objects that a command uses."""
    if isinstance(command, Launch):
        return [str(arg.value) for arg in command.args if arg.kind == "object"]
    return [view.ref for view in _views(command)]


def _views(command: ComputeCommand) -> list[View]:
    if isinstance(command, WriteInput | ReadOutput):
        return [command.view]
    if isinstance(command, HostStep):
        if isinstance(command.work, RowFetch):
            return [command.work.output]
        return [view for _, view in (*command.work.inputs, *command.work.outputs)]
    return []


def check_objects(program: Program) -> None:
    """Sizes are positive and agree; the staging ring fits its transport."""
    for name, item in program.objects.items():
        if item.name != name or item.bytes < 1:
            refuse(f"object {name!r} has no size or another name")
        if item.pool not in (Pool.TEXTURE, Pool.BUFFER):
            refuse(f"object {name!r} is in a pool that holds no objects")
        if (item.kind is ObjectKind.IMAGE2D) != (item.width > 0 and item.height > 0):
            refuse(f"object {name!r} is an image without a size, or a buffer with one")
        if item.kind is ObjectKind.IMAGE2D:
            texel = _CHANNELS * _IMAGE_ITEM.get(item.dtype, 0)
            if item.width * item.height * texel != item.bytes or item.pool is not Pool.TEXTURE:
                refuse(f"image {name!r} does not have the bytes of its texels")
        if item.pool is Pool.TEXTURE:
            _check_weight(item, program.spans.get(name))
    ring = program.transport is not Transport.MAP and program.slot_bytes > 0
    if program.staging_bytes < 0 or program.slot_bytes < 0:
        refuse("the staging ring has a negative size")
    if ring and program.staging_bytes < program.slot_bytes:
        refuse("the staging ring holds no slot")
    if program.transport is Transport.MAP and (program.staging_bytes or program.slot_bytes):
        refuse("it maps weights, yet has a staging ring")


def _check_weight(item: DeviceObject, span: PackedSpan | None) -> None:
    if span is None:
        refuse(f"weight {item.name!r} has no packed bytes")
    if span.bytes != item.bytes:
        refuse(f"weight {item.name!r} has {span.bytes} packed bytes for {item.bytes} on the device")
    if item.kind is ObjectKind.IMAGE2D and span.row_bytes * item.height != item.bytes:
        refuse(f"weight {item.name!r} is packed in other rows than its image has")


def check_spans(program: Program) -> None:
    """Whole rows, and a checksum for every block."""
    for name, span in program.spans.items():
        if span.offset < 0 or span.bytes < 1 or span.row_bytes < 1 or span.block_rows < 1:
            refuse(f"the packed bytes of {name!r} have no size or place")
        if span.bytes % span.row_bytes:
            refuse(f"the packed bytes of {name!r} are not whole rows")
        if len(span.checksums) != -(-span.bytes // (span.row_bytes * span.block_rows)):
            refuse(f"not every block of {name!r} has a checksum")
        if not all(0 <= checksum < 2**64 for checksum in span.checksums):
            refuse(f"a checksum of {name!r} is not one")


def check_commands(program: Program) -> None:
    """Compute commands name what exists; views lie within their buffers; costs fit the layers."""
    if program.costs and len(program.costs) != len(program.layers):
        refuse("it has costs of other layers than its own")
    for cost in program.costs:
        if cost.op_class not in {known.value for known in OperatorClass}:
            refuse(f"a layer is of class {cost.op_class!r}, which does not exist")
        if min(cost.flops, cost.bytes) < 0:
            refuse("a layer costs less than nothing")
    previous = 0
    for command in program.compute:
        if not previous <= command.layer < len(program.layers):
            refuse(f"{command.name!r} belongs to no layer, or to one that is over")
        previous = command.layer
        unknown = [name for name in touched(command) if name not in program.objects]
        if unknown:
            refuse(f"{command.name!r} uses {unknown[0]!r}, which does not exist")
        for view in _views(command):
            _check_view(view, program.objects[view.ref])
        if isinstance(command, Launch | Move):
            _check_launch(command, program)
        elif isinstance(command, HostStep):
            _check_host_step(command, program)


def _check_view(view: View, item: DeviceObject) -> None:
    if item.kind is ObjectKind.IMAGE2D:
        refuse(f"a view lies on the image {view.ref!r}")
    if len(view.shape) != len(view.strides) or min(view.shape, default=1) < 1:
        refuse(f"a view on {view.ref!r} has no proper shape")
    itemsize = dtype_of(view.dtype).itemsize
    reach = [(size - 1) * step for size, step in zip(view.shape, view.strides, strict=True)]
    lowest = view.offset + sum(step for step in reach if step < 0)
    highest = view.offset + sum(step for step in reach if step > 0)
    if lowest < 0 or (highest + 1) * itemsize > item.bytes:
        refuse(f"a view reaches beyond {view.ref!r}")


def _check_launch(launch: Launch | Move, program: Program) -> None:
    if not 0 <= launch.kernel < len(program.kernels):
        refuse(f"{launch.name!r} has no kernel")
    whole, local = launch.global_size, launch.local_size
    if not 1 <= len(whole) <= 3 or min(whole) < 1 or max(whole) >= 2**32:
        refuse(f"{launch.name!r} has no proper global size")
    if local and (len(local) != len(whole) or min(local) < 1):
        refuse(f"{launch.name!r} has no proper local size")
    if any(size % part for size, part in zip(whole, local, strict=False)):
        refuse(f"the local size of {launch.name!r} does not divide its global size")
    for arg in launch.args:
        if not isinstance(arg.value, _ARG_TYPES.get(arg.kind, ())):
            refuse(f"{launch.name!r} has an argument of kind {arg.kind!r} that is none")


def _check_host_step(step: HostStep, program: Program) -> None:
    if isinstance(step.work, HostCall):
        for _, table, dtype, shape in step.work.weights:
            span = program.spans.get(table)
            size = prod(shape) * dtype_of(dtype).itemsize
            if span is None or span.bytes not in (size, size // 2):  # half under fp16
                refuse(f"{step.name!r} needs {table!r}, which is not packed like that")
        written = [view for _, view in step.work.outputs]
    else:
        table, indices = step.work.table, {port.name: port for port in program.inputs}
        written = [step.work.output]
        if table not in program.spans or step.work.index not in indices:
            refuse(f"{step.name!r} has no table or no index")
        rows = prod(indices[step.work.index].shape)
        if not np.issubdtype(dtype_of(indices[step.work.index].dtype), np.integer):
            refuse(f"{step.name!r} has an index that is not made of integers")
        if written[0].dtype != "float32" or rows < 1 or written[0].size % rows:
            refuse(f"{step.name!r} writes other rows than it reads")
        row_bytes = program.spans[table].row_bytes
        if written[0].size // rows not in (row_bytes // 4, row_bytes // 2):
            refuse(f"{step.name!r} writes rows of another length than the table's")
    for view in written:
        if not _is_contiguous(view):
            refuse(f"{step.name!r} writes a view that is not contiguous")


def _is_contiguous(view: View) -> bool:
    """Whether the view is row-major without gaps; the stride of a single element means nothing."""
    wanted = [prod(view.shape[axis + 1 :]) for axis in range(len(view.shape))]
    pairs = zip(view.shape, view.strides, wanted, strict=True)
    return all(size == 1 or stride == want for size, stride, want in pairs)


def check_ports(program: Program) -> None:
    """Inputs are written once, before anything else touches their buffer; outputs read once."""
    ports = {port.name: port for port in program.inputs}
    outputs = {port.name: port for port in program.outputs}
    if len(ports) != len(program.inputs) or len(outputs) != len(program.outputs):
        refuse("two of its inputs or outputs have the same name")
    used: set[str] = set()
    written: list[str] = []
    read: list[str] = []
    for command in program.compute:
        if isinstance(command, WriteInput):
            written.append(command.name)
            if command.name not in ports or ports[command.name].view != command.view:
                refuse(f"input {command.name!r} is not written where it belongs")
            if command.view.ref in used:
                refuse(f"input {command.name!r} is written too late")
        elif isinstance(command, ReadOutput):
            read.append(command.name)
            if command.name not in outputs or outputs[command.name].view != command.view:
                refuse(f"output {command.name!r} is not read where it belongs")
        else:
            used.update(touched(command))
    _all_once(written, "input")
    _all_once(read, "output")
    if len(read) != len(outputs):
        refuse("not every output is read back")
    for name, port in ports.items():  # an input that nothing reads has no buffer
        if port.view is not None and port.view.ref in program.objects and name not in written:
            refuse(f"input {name!r} is never written")


def _all_once(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            refuse(f"{what} {name!r} is moved twice")
        seen.add(name)
