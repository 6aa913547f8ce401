"""The lowering's own intermediate form: tensors, references to them, and operations.

Operations are mutable while passes fuse and split them; emit.py turns them into frozen Layers.
Every operation writes its output through four coordinates (e0, e1, e2, e3), so that element-wise
work that follows can be hung on it as an epilogue, and so that its output may be any strided view.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from flashmem_lab.device.spec import WITH_FUNCTION
from flashmem_lab.graph.model import WeightRef
from flashmem_lab.lower import strides as st
from flashmem_lab.lower.body import Body
from flashmem_lab.lower.layer import OperatorClass, Part, Step, Storage

ITEM_BYTES = {"float32": 4, "int64": 8, "int32": 4, "bool": 1}


@dataclass(eq=False, slots=True)
class Tensor:
    """A dense block of device memory: an activation, or a weight kept in a buffer."""

    name: str
    dtype: str
    size: int  # elements
    weight: bool = False
    input: str = ""  # name of the graph input it holds, unchanged

    @property
    def bytes(self) -> int:
        """Bytes of its buffer; an empty tensor still has one, since OpenCL has no empty buffers."""
        return max(4, self.size * ITEM_BYTES[self.dtype])


Digits = tuple[tuple[int, int], ...]
"""(extent, stride) of the digits that a coordinate consists of, slowest first."""

SPLIT = -1


@dataclass(frozen=True, slots=True)
class Ref:
    """A strided view of a tensor. Refs of the same tensor and geometry are equal.

    A dimension may be split: its coordinate is then taken apart by division and remainder, and
    each digit has a stride of its own. Fusion makes such views at the end; they have no views of
    their own. The stride of a split dimension reads SPLIT, which is neither 0 nor 1, so that no
    kernel takes it for a broadcast or a run of neighbours.
    """

    tensor: Tensor
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    split: tuple[tuple[int, Digits], ...] = ()  # (dimension, digits), only of split ones

    @classmethod
    def whole(cls, tensor: Tensor, shape: tuple[int, ...]) -> Ref:
        """The tensor as a dense row-major array of `shape`."""
        return cls(tensor, 0, shape, st.contiguous(shape))

    @classmethod
    def of_digits(cls, tensor: Tensor, offset: int, digits: list[Digits]) -> Ref:
        """A view with one dimension for each of `digits`, split where that has several."""
        return cls(
            tensor,
            offset,
            tuple(prod(extent for extent, _ in d) for d in digits),
            tuple(d[0][1] if len(d) == 1 else SPLIT for d in digits),
            tuple((axis, d) for axis, d in enumerate(digits) if len(d) > 1),
        )

    def digits(self) -> list[Digits]:
        """The digits of every dimension; one where it is not split."""
        plain: list[Digits] = [(d,) for d in zip(self.shape, self.strides, strict=True)]
        for axis, digits in self.split:
            plain[axis] = digits
        return plain

    def flat(self) -> Ref:
        """The same elements with a dimension for each digit."""
        pairs = [pair for digits in self.digits() for pair in digits]
        shape, strides = zip(*pairs, strict=True) if pairs else ((), ())
        return Ref(self.tensor, self.offset, shape, strides)

    def groups(self) -> list[list[int]]:
        """The dimensions of `flat()` that each dimension here consists of."""
        result, at = [], 0
        for digits in self.digits():
            result.append(list(range(at, at + len(digits))))
            at += len(digits)
        return result

    @property
    def reach(self) -> int:
        """The largest element index under it, if no stride is negative."""
        flat = self.flat()
        pairs = zip(flat.shape, flat.strides, strict=True)
        return self.offset + sum((extent - 1) * abs(stride) for extent, stride in pairs)

    @property
    def dtype(self) -> str:
        """Element type."""
        return self.tensor.dtype

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def touched(self) -> int:
        """Bytes of the distinct elements under it."""
        digits = (pair for part in self.digits() for pair in part)
        return prod(extent for extent, stride in digits if stride) * ITEM_BYTES[self.dtype]

    @property
    def dense(self) -> bool:
        """True if it is a dense row-major block."""
        return not self.split and st.is_contiguous(self.shape, self.strides)

    def permute(self, axes: tuple[int, ...]) -> Ref:
        """The same elements with dimensions in another order."""
        assert not self.split, "a split view has no views"
        return replace(
            self,
            shape=tuple(self.shape[a] for a in axes),
            strides=tuple(self.strides[a] for a in axes),
        )

    def reshape(self, shape: tuple[int, ...]) -> Ref | None:
        """The same elements under another shape, or None where that needs a copy."""
        if self.split:
            return None
        strides = st.reshape(self.shape, self.strides, shape)
        return None if strides is None else replace(self, shape=shape, strides=strides)

    def broadcast(self, shape: tuple[int, ...]) -> Ref:
        """As if it had `shape`, by NumPy's rules."""
        assert not self.split, "a split view has no views"
        return replace(self, shape=shape, strides=st.broadcast(self.shape, self.strides, shape))

    def slice(self, axis: int, start: int, count: int, step: int = 1) -> Ref:
        """`count` elements along `axis`, from `start`, `step` apart (may be negative)."""
        assert all(split != axis for split, _ in self.split), "a split dimension stays whole"
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = count, (0 if count == 1 else strides[axis] * step)
        return Ref(self.tensor, offset, tuple(shape), tuple(strides), self.split)

    def quad(self) -> Ref | None:
        """Four-dimensional form: leading ones added, or neighbours merged; None if impossible."""
        if len(self.shape) <= 4:
            lead = 4 - len(self.shape)
            return replace(self, shape=(1,) * lead + self.shape, strides=(0,) * lead + self.strides)
        dims, (steps,) = st.collapse(self.shape, [self.strides])
        if len(dims) > 4:
            return None
        return replace(self, shape=dims, strides=steps).quad()


@dataclass(frozen=True, slots=True)
class WeightExpr:
    """A weight and the transforms applied to it when it is packed; no bytes are read.

    Attributes:
        source: bytes in the model's files; or `constant`, the name of a folded constant.
        steps: transforms so far.
        shape: after the steps.
        dtype: after the steps.
        origin: initializer's name.
    """

    source: WeightRef | None
    constant: str
    steps: tuple[Step, ...]
    shape: tuple[int, ...]
    dtype: str
    origin: str

    def _then(self, step: Step, shape: tuple[int, ...]) -> WeightExpr:
        return replace(self, steps=(*self.steps, step), shape=shape)

    def reshape(self, shape: tuple[int, ...]) -> WeightExpr:
        """Row-major reshape."""
        return self if shape == self.shape else self._then(Step("reshape", shape), shape)

    def permute(self, axes: tuple[int, ...]) -> WeightExpr:
        """Dimensions in another order."""
        if axes == tuple(range(len(axes))):
            return self
        return self._then(Step("permute", axes), tuple(self.shape[a] for a in axes))

    def slice(self, axis: int, start: int, count: int, step: int = 1) -> WeightExpr:
        """`count` elements along `axis` from `start`, `step` (positive) apart."""
        if (start, count, step) == (0, self.shape[axis], 1):
            return self
        shape = (*self.shape[:axis], count, *self.shape[axis + 1 :])
        return self._then(Step("slice", (axis, start, start + count * step, step)), shape)

    def take(self, axis: int, indices: tuple[int, ...]) -> WeightExpr:
        """The elements at `indices` along `axis`."""
        shape = (*self.shape[:axis], len(indices), *self.shape[axis + 1 :])
        return self._then(Step("take", (axis, *indices)), shape)

    def scale(self, axis: int, constant: str) -> WeightExpr:
        """Multiplied along `axis` by a vector of the model's constants."""
        return self._then(Step("scale", (axis, constant)), self.shape)

    def pad(self, axis: int, size: int) -> WeightExpr:
        """`axis` grown to `size` with zeros."""
        if size == self.shape[axis]:
            return self
        shape = (*self.shape[:axis], size, *self.shape[axis + 1 :])
        return self._then(Step("pad", (axis, size)), shape)

    def cast(self, dtype: str) -> WeightExpr:
        """As another element type."""
        return replace(self._then(Step("cast", (dtype,)), self.shape), dtype=dtype)


Value = Ref | WeightExpr | np.ndarray


@dataclass(eq=False, slots=True)
class Op:
    """One operation that will become one layer (or several, when it is split).

    Attributes:
        kind: names the template and the layer.
        op_class: for the planner.
        nodes: ONNX nodes covered, the anchor first.
        out: where results go; its shape is the operation's element-wise shape.
        operands: activations read by name ("a", "b", "x", ...), in signature order.
        weight: the packed operand of the anchor, before layout, or None.
        body: element-wise program on the anchor's value (input 0) and `extras` (the others); for a
            "map" there is no anchor and every input is an extra.
        extras: operands of the body, each broadcast to `out.shape`.
        attrs: integers, floats and strings that the template needs.
        flops: of the anchor.
        parts: what it was fused of; set when fusion is over.
        storage: of the weight; set when fusion is over.
    """

    kind: str
    op_class: OperatorClass
    nodes: list[str]
    out: Ref
    operands: dict[str, Ref]
    body: Body
    extras: list[Ref]
    weight: WeightExpr | None = None
    attrs: dict[str, object] = field(default_factory=dict)
    flops: int = 0
    tile: str = ""
    more: list[Ref] = field(default_factory=list)  # further outputs; host nodes only
    parts: tuple[Part, ...] = ()
    storage: Storage = Storage.BUFFER

    @property
    def costs_as(self) -> str:
        """`kind`, and what makes it cost more.

        Convolutions that skip pixels gather them one by one; an activation such as GELU takes as
        long as many a product that it is fused to.
        """
        strided = self.kind == "conv" and max(self.integer("sh"), self.integer("sw")) > 1
        kind = "strided conv" if strided else self.kind
        return kind + WITH_FUNCTION if self.body.has_function else kind

    @property
    def is_plain(self) -> bool:
        """True if the anchor's value is stored as it is."""
        return not self.body.statements and len(self.body.inputs) == 1

    @property
    def is_copy(self) -> bool:
        """True if it only moves elements, one operand's to where the output wants them."""
        return self.kind == "map" and self.is_plain

    def integer(self, name: str) -> int:
        """One of `attrs` that is an integer."""
        value = self.attrs[name]
        assert isinstance(value, int), f"{self.kind}.{name} is an integer"
        return value

    def writes(self) -> list[Ref]:
        """Every view that it writes."""
        return [self.out, *self.more]

    def reads(self) -> list[Ref]:
        """Every view that it reads."""
        return [*self.operands.values(), *self.extras]
