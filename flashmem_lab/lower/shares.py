"""Long reductions of small results: several work-groups share one block, a map adds their sums.

A product of 64 rows, 1280 columns and 11,520 steps makes some 20 blocks, where a large GPU has room
for hundreds. Sharing the steps costs a buffer of as many results as there are shares, and a launch.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.graph.model import TensorType
from flashmem_lab.lower.blocks import by_blocks, is_few_rows, kind_of, size_of, tile_for
from flashmem_lab.lower.body import Body, Statement, inline
from flashmem_lab.lower.context import Context
from flashmem_lab.lower.ir import Op, Ref
from flashmem_lab.lower.layer import OperatorClass


def share_long(ops: list[Op], ctx: Context, device: DeviceSpec) -> list[Op]:
    """Replaces products whose tile has shares by the shares and their sum; for GPUs.

    Args:
        ops: in execution order, no longer to be fused or split.
        ctx: makes the buffers of the shares.
        device: whose tuning says what is shared.
    """
    if device.kind == "cpu":
        return ops
    return [part for op in ops for part in _shared(op, ctx, device)]


def _shared(op: Op, ctx: Context, device: DeviceSpec) -> list[Op]:
    if op.kind not in ("gemm", "conv") or (op.kind == "conv" and not by_blocks(op)):
        return [op]
    size = size_of(op)
    shares = tile_for(device, kind_of(op), size).shares
    if shares == 1 or size.batch > 1 or is_few_rows(kind_of(op), size):
        return [op]
    sums = ctx.tensor(
        f"{op.out.tensor.name}.shares", TensorType("float32", (shares, *op.out.shape[1:]))
    )
    first = replace(
        op, out=sums, body=Body(("float32",), (), 0), extras=[], parts=(),
        attrs={**op.attrs, "shares": shares},
    )  # fmt: skip
    each = [_place(sums, share, op.out.shape) for share in range(shares)]
    total = Statement(
        "float32", " + ".join(f"{{{i}}}" for i in range(shares)), tuple(range(shares))
    )
    second = Op(
        "map",
        OperatorClass.ELEMENTAL,
        list(op.nodes),
        op.out,
        {},
        inline(op.body, 0, Body(("float32",) * shares, (total,), shares)),
        [*each, *op.extras],
        flops=shares * op.out.size,
        tile=op.tile,
    )
    return [first, second]


def _place(sums: Ref, share: int, shape: tuple[int, ...]) -> Ref:
    """What one share summed, in the result's shape."""
    return Ref(sums.tensor, share * prod(shape), shape, sums.strides)
