"""Emission: each operation becomes a frozen Layer, its weights become packed Weights."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.errors import ModelError
from flashmem_lab.graph.model import TensorType
from flashmem_lab.lower import strides as st
from flashmem_lab.lower.context import Context
from flashmem_lab.lower.ir import Op, Ref, WeightExpr
from flashmem_lab.lower.launch import Launcher
from flashmem_lab.lower.layer import (
    HostCall,
    KernelCall,
    Layer,
    Part,
    Precision,
    Recipe,
    RowFetch,
    Storage,
    View,
    Weight,
)
from flashmem_lab.lower.signature import Signature
from flashmem_lab.lower.textures import Panels, Texture, panels, texture
from flashmem_lab.lower.tiles import by_panels
from flashmem_lab.units import format_bytes

_DTYPE = {Precision.FP32: "float32", Precision.FP16: "float16"}


class Emitter:
    """Turns operations into layers, in order.

    Attributes:
        layers: so far.
        buffers: bytes of each activation used so far.
        weights: packed weights in order of first use.
        constants: names of folded constants that some recipe reads.
    """

    def __init__(self, ctx: Context, device: DeviceSpec, precision: Precision) -> None:
        self._ctx = ctx
        self._limits = device.limits
        self._precision = precision
        self._launcher = Launcher(device, precision)
        self._packed: dict[tuple[object, ...], str] = {}
        self.layers: list[Layer] = []
        self.buffers: dict[str, int] = {}
        self.weights: dict[str, Weight] = {}
        self.constants: set[str] = set()

    @staticmethod
    def view(ref: Ref) -> View:
        """The frozen form of a reference."""
        assert not ref.split, "what the host reads or writes is strided"
        strides = st.normalise(ref.shape, ref.strides)
        return View(ref.tensor.name, ref.dtype, ref.offset, ref.shape, strides)

    def add(self, op: Op) -> None:
        """Appends the layer of one operation."""
        used: list[str] = []
        work: KernelCall | HostCall | RowFetch
        if op.kind == "host":
            work = self._host(op)
        elif op.kind == "rows":
            assert op.weight is not None
            table = self._table(op.weight)
            work = RowFetch(table, str(op.attrs["index"]), self.view(op.out))
        else:
            signature = Signature()
            if op.weight is not None:
                used.append(self._texture(op, signature))
            work = self._launcher.call(op, signature)
        for ref in (*op.reads(), *op.writes()):
            self._refuse(ref)
        reads = [ref.tensor for ref in op.reads()]
        for tensor in (*reads, *(ref.tensor for ref in op.writes())):
            if tensor.weight:
                used.append(self._buffer(tensor.name))
            else:
                self.buffers[tensor.name] = tensor.bytes
        used = list(dict.fromkeys(used))
        weight_bytes = sum(self.weights[name].device_bytes for name in used)
        activations = [ref for ref in op.reads() if not ref.tensor.weight]
        self.layers.append(
            Layer(
                index=len(self.layers),
                name=op.nodes[0] + (f" [{op.tile}]" if op.tile else ""),
                kind=op.costs_as,
                op_class=op.op_class,
                work=work,
                reads=tuple(dict.fromkeys(t.name for t in reads if not t.weight)),
                writes=tuple(dict.fromkeys(r.tensor.name for r in op.writes())),
                weights=tuple(used),
                flops=op.flops,
                bytes_read=weight_bytes + sum(ref.touched for ref in activations),
                bytes_written=sum(ref.touched for ref in op.writes()),
                nodes=tuple(dict.fromkeys(op.nodes)),
                parts=self._parts(op, used),
            )
        )

    def _parts(self, op: Op, used: list[str]) -> tuple[Part, ...]:
        """The parts, with the texture's bytes in the one that reads it."""
        if op.weight is None or not op.parts:
            return op.parts
        texture_bytes = self.weights[used[0]].device_bytes
        return tuple(
            part
            if part.kind == "map"
            else replace(part, bytes_read=part.bytes_read + texture_bytes)
            for part in op.parts
        )

    def _refuse(self, ref: Ref) -> None:
        """Refuses what no kernel can address.

        Raises:
            ModelError: empty, beyond the device's largest object, or beyond 32-bit indices.
        """
        name, most = ref.tensor.name, self._limits.max_alloc
        if not ref.size:
            raise ModelError(f"{name!r} is empty", hint="give input shapes that leave elements")
        if ref.tensor.bytes > most:
            what = f"{format_bytes(ref.tensor.bytes)}; the device's largest object has "
            what += format_bytes(most)
        elif max(ref.reach + 1, ref.size) > 2**31 - 1:
            what = f"{ref.tensor.size} elements; kernels count them with 32 bits"
        else:
            return
        raise ModelError(f"{name!r} has {what}", hint="run with a smaller batch or smaller inputs")

    def _host(self, op: Op) -> HostCall:
        model, names = op.attrs["model"], op.attrs["outputs"]
        weights = op.attrs["weights"]
        assert isinstance(model, bytes)
        assert isinstance(names, tuple)
        assert isinstance(weights, tuple)
        return HostCall(
            model,
            tuple((name, self.view(ref)) for name, ref in op.operands.items()),
            tuple((n, self.view(r)) for n, r in zip(names, op.writes(), strict=True)),
            tuple((name, *self._whole(expr)) for name, expr in weights),
        )

    def _whole(self, expr: WeightExpr) -> tuple[str, str, tuple[int, ...]]:
        """A weight that only the host reads: its packed name, element type and shape."""
        dtype = self._ctx.device_dtype(TensorType(expr.dtype, expr.shape))
        width = max(1, expr.shape[-1]) if expr.shape else 1
        height = max(1, prod(expr.shape) // width)
        name = f"{expr.origin} [host]"
        return (
            self._pack(name, expr.cast(dtype), Storage.HOST, dtype, width, height),
            dtype,
            expr.shape,
        )

    def _texture(self, op: Op, signature: Signature) -> str:
        if by_panels(op, self._launcher.cpu):
            shape: Panels | Texture = panels(op, self._limits)
        else:
            shape = texture(op, self._limits, op.storage)
        half = self._precision is Precision.FP16
        dtype = _DTYPE[self._precision]
        width = shape.width if op.storage is Storage.IMAGE2D else shape.width * 4
        assert op.weight is not None
        name = op.weight.origin + (f" [{op.tile}]" if op.tile else "")
        name = self._pack(name, shape.expr.cast(dtype), op.storage, dtype, width, shape.height)
        if isinstance(shape, Panels):
            signature.panels("w", name, shape, op.storage, half)
        else:
            signature.texture("w", name, shape, op.storage, half)
        return name

    def _table(self, expr: WeightExpr) -> str:
        rows, width = expr.shape
        dtype = _DTYPE[self._precision]
        name = f"{expr.origin} [rows]"
        return self._pack(name, expr.cast(dtype), Storage.HOST, dtype, width, rows)

    def _buffer(self, name: str) -> str:
        """A weight read element by element: float32 whatever the precision, it is small."""
        tensor, expr = self._ctx.buffer_weights[name]
        width = expr.shape[-1] if len(expr.shape) > 1 and expr.shape[-1] else max(1, tensor.size)
        height = max(1, tensor.size // width)
        if name not in self.weights:
            self._note(name, expr, Storage.BUFFER, tensor.dtype, width, height)
        return name

    def _pack(
        self, name: str, expr: WeightExpr, storage: Storage, dtype: str, width: int, height: int
    ) -> str:
        key = (expr.source, expr.constant, expr.steps, storage)
        found = self._packed.get(key)
        if found is not None:
            return found
        name = self._ctx.unique(name)
        self._packed[key] = name
        self._note(name, expr, storage, dtype, width, height)
        return name

    def _note(
        self, name: str, expr: WeightExpr, storage: Storage, dtype: str, width: int, height: int
    ) -> None:
        recipe = Recipe(expr.source, expr.constant, expr.steps)
        self.weights[name] = Weight(name, storage, dtype, width, height, recipe, expr.origin)
        if expr.constant:
            self.constants.add(expr.constant)
        self.constants.update(str(s.args[1]) for s in expr.steps if s.op == "scale")
