"""Fusion: element-wise work and copies move into the operations around them.

Needs: every tensor is written before it is read, and never overwritten.
Guarantees: the same, with fewer operations. A map joins what computes its operand; a copy is gone
where its producer can write through the copy's view, or every reader can read through it (this is
what makes Concat, window partition, and Transpose followed by Reshape cost nothing); the products
and the softmax of attention are one operation. Tensors to keep are written as they are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from flashmem_lab.lower.attention import Pattern, is_factor
from flashmem_lab.lower.body import MAX_STATEMENTS, Body, inline, merge_inputs
from flashmem_lab.lower.concat import spread_concats
from flashmem_lab.lower.coordinates import transfer
from flashmem_lab.lower.ir import Op, Ref, Tensor
from flashmem_lab.lower.parts import parts_of
from flashmem_lab.lower.split import AXES

MAX_OPERANDS = 8  # operands of a body; more would run out of kernel arguments on small devices

READ_SPLIT = {
    ("gemm", "a"): (0, 1, 2),
    ("matmul", "a"): (0, 1, 2),
    ("matmul", "b"): (0, 1),
    ("normalise", "x"): (0, 1, 2, 3),
    ("softmax", "x"): (0, 1, 2, 3),
    ("reduce", "x"): (0, 1, 2, 3),
    ("attention", "query"): (0, 1, 2),
    ("attention", "key"): (0, 1, 3),
    ("attention", "value"): (0, 1, 2),
}
"""Dimensions of an operand that may be split: a division for each step of a product costs much."""

NO_EPILOGUE = frozenset({"host", "rows"})


def fuse(ops: list[Op], kept: Iterable[Tensor]) -> list[Op]:
    """Fuses element-wise operations into their producers.

    Args:
        ops: in execution order; those that take others in are changed.
        kept: tensors that must exist in memory: graph outputs, and values of undone fusions.

    Returns:
        The operations left, in execution order.
    """
    kept = frozenset(kept)
    ops = spread_concats(ops, kept)
    state = _State(ops, kept)
    for op in ops:
        if op.kind == "map":
            state.absorb(op)
    for op in state.in_order():
        if op.kind == "matmul":
            state.join_attention(op)
    for op in state.in_order():
        if op.is_copy:
            state.read_through(op)
    left = state.in_order()
    for op in left:
        op.parts = parts_of(state.pieces[op])
    return left


class _State:
    def __init__(self, ops: list[Op], kept: frozenset[Tensor]) -> None:
        self.kept = kept
        self.place = {op: index for index, op in enumerate(ops)}
        # Each operation as it was, in an order in which they could run.
        self.pieces = {op: [replace(op)] for op in ops}
        self.readers: dict[Tensor, set[Op]] = defaultdict(set)
        self.writers: dict[Tensor, set[Op]] = defaultdict(set)
        for op in ops:
            for ref in op.reads():
                self.readers[ref.tensor].add(op)
            for ref in op.writes():
                self.writers[ref.tensor].add(op)

    def in_order(self) -> list[Op]:
        return sorted(self.place, key=self.place.__getitem__)

    def absorb(self, op: Op) -> None:
        """Pulls producers into map `op`, element-wise ones first, then at most one anchor."""
        while True:
            _merge_equal_operands(op)
            candidates = self._producers(op)
            maps = [(slot, p) for slot, p in candidates if p.kind == "map"]
            anchors = [(slot, p) for slot, p in candidates if p.kind != "map"]
            # The latest anchor: what the others wrote is then there to be read.
            anchors.sort(key=lambda pair: -self.place[pair[1]])
            if not any(self._join(op, slot, producer) for slot, producer in maps + anchors):
                return
            if op.kind != "map":
                return

    def _producers(self, op: Op) -> list[tuple[int, Op]]:
        """(slot, producer) of every operand that has a producer to be pulled in."""
        found = []
        for slot, ref in enumerate(op.extras):
            producer = self._private_producer(op, ref.tensor)
            if producer and producer.kind not in NO_EPILOGUE:
                found.append((slot, producer))
        return found

    def _private_producer(self, op: Op, tensor: Tensor) -> Op | None:
        """The one operation that writes all of `tensor`, if `op` alone reads it, and only once."""
        writers = self.writers[tensor]
        if len(writers) != 1 or self.readers[tensor] != {op} or tensor in self.kept:
            return None
        if sum(ref.tensor is tensor for ref in op.reads()) != 1:
            return None
        (producer,) = writers
        return producer if producer.out.size == tensor.size else None

    def _join(self, op: Op, slot: int, producer: Op) -> bool:
        size = len(op.body.statements) + len(producer.body.statements)
        if size > MAX_STATEMENTS or len(op.extras) + len(producer.extras) - 1 > MAX_OPERANDS:
            return False
        moved = transfer(producer.out, op.extras[slot], [*op.extras, op.out])
        if moved is None:
            return False
        before = producer.extras
        if producer.kind == "map":
            *extras, out = moved.apart()
            before = [moved.spread(ref) for ref in before]
        else:
            *extras, out = moved.together()
            whole = AXES[producer.kind][0] if producer.kind in AXES else None
            if any(axis == whole for ref in (*extras, out) for axis, _ in ref.split):
                return False  # tiles of the weight cut this one
        for ref in producer.reads():
            self.readers[ref.tensor].discard(producer)
            self.readers[ref.tensor].add(op)
        del self.place[producer]
        self.pieces[op] = self.pieces[producer] + self.pieces[op]
        op.body = inline(op.body, slot, producer.body)
        op.extras = before + extras[:slot] + extras[slot + 1 :]
        op.out = out
        op.nodes = producer.nodes + op.nodes
        if producer.kind == "map":
            op.flops += producer.flops
        else:
            op.kind, op.op_class, op.flops = producer.kind, producer.op_class, producer.flops
            op.operands, op.weight, op.attrs = producer.operands, producer.weight, producer.attrs
        return True

    def join_attention(self, product: Op) -> None:
        """Pulls the softmax and the scores that it was made of into a product, if they fit."""
        softmax = self._private_producer(product, product.operands["a"].tensor)
        if softmax is None or softmax.kind != "softmax":
            return
        scores = self._private_producer(softmax, softmax.operands["x"].tensor)
        if scores is None or scores.kind != "matmul":
            return
        pattern = Pattern(scores, softmax, product)
        if not pattern.fits:
            return
        joined = pattern.joined()
        self.place[joined] = self.place.pop(product)
        self.pieces[joined] = [
            piece for op in (scores, softmax, product) for piece in self.pieces[op]
        ]
        self._take_over(joined, scores, softmax, product)
        for name in ("query", "key"):
            self._fold_factor(joined, name)

    def _fold_factor(self, attention: Op, operand: str) -> None:
        """A query or key that is only multiplied by a number: the scores are multiplied instead."""
        factor = self._private_producer(attention, attention.operands[operand].tensor)
        if factor is None or not is_factor(factor):
            return
        moved = transfer(attention.operands[operand], factor.out, factor.extras)
        if moved is None or not _readable(attention, operand, source := moved.together()[0]):
            return
        attention.operands[operand] = source
        scores = attention.attrs["scores"]
        assert isinstance(scores, Body), "set when the pattern was joined"
        attention.attrs["scores"] = inline(scores, 0, factor.body)
        attention.nodes += factor.nodes
        self.pieces[attention] = self.pieces[factor] + self.pieces[attention]
        self._take_over(attention, factor)

    def _take_over(self, op: Op, *gone: Op) -> None:
        """`op` now does what the operations that go away did."""
        for old in gone:
            self.place.pop(old, None)
            for ref in old.reads():
                self.readers[ref.tensor].discard(old)
            for ref in old.writes():
                self.writers[ref.tensor].discard(old)
        for ref in op.reads():
            self.readers[ref.tensor].add(op)
        for ref in op.writes():
            self.writers[ref.tensor].add(op)

    def read_through(self, copy: Op) -> None:
        """Lets the readers of a copy read what it copies, if index maps allow that for each."""
        tensor, (source,) = copy.out.tensor, copy.extras
        if tensor in self.kept or self.writers[tensor] != {copy}:
            return
        changed: dict[Op, dict[str, Ref]] = {}
        for op in self.readers[tensor]:
            if any(ref.tensor is tensor for ref in op.extras):
                return
            for name, ref in op.operands.items():
                if ref.tensor is tensor:
                    moved = transfer(ref, copy.out, [source])
                    if moved is None or not _readable(op, name, found := moved.together()[0]):
                        return
                    changed.setdefault(op, {})[name] = found
        for op, operands in changed.items():
            op.operands = op.operands | operands
            op.nodes = op.nodes + copy.nodes
            self.pieces[op] = self.pieces[copy] + self.pieces[op]
        self.readers[source.tensor] |= set(changed)
        self.readers[source.tensor].discard(copy)
        del self.place[copy]


def _readable(op: Op, name: str, ref: Ref) -> bool:
    """True if the kernel of `op` can read `ref`: no digits where it walks fastest."""
    allowed = READ_SPLIT.get((op.kind, name))
    return allowed is not None and all(axis in allowed for axis, _ in ref.split)


def _merge_equal_operands(op: Op) -> None:
    """Reads equal operands of a map once."""
    same = [op.extras.index(ref) for ref in op.extras]
    if same != list(range(len(same))):
        op.extras = [op.extras[i] for i, target in enumerate(same) if target == i]
        op.body = merge_inputs(op.body, same)
