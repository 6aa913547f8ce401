"""From operations to kernel calls: signature, template parameters, tiles and launch geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from flashmem_lab.device.spec import DeviceSpec
from flashmem_lab.lower import blocks
from flashmem_lab.lower import strides as st
from flashmem_lab.lower.body import Body, literal
from flashmem_lab.lower.ir import Op, Ref
from flashmem_lab.lower.layer import KernelCall, Precision
from flashmem_lab.lower.planes import by_planes, planes
from flashmem_lab.lower.signature import Signature
from flashmem_lab.lower.tiles import (
    LANES,
    Geometry,
    by_panels,
    panel_conv,
    panel_product,
    power_of_two,
    up,
    window,
)

ROW_VECTORS = 256  # of a row that one work-item keeps to itself: 16 KiB of a core's cache
MOST_ROW_GROUP = 256  # work-items that walk one row; more would idle on rows of usual length
LONG_ROW = 16384  # elements, as planes of group normalisation have: as many items as there are
MOST_LINE = 4096  # elements of a row that a core blends at a time: 16 KiB of its cache
MOST_LINE_TAPS = 8  # of an element of such a row; they are unrolled
FEWEST_HELD = 8  # elements of a row for each work-item, where the row is short
MOST_HELD = 16  # that a work-item of a GPU keeps in registers


class Launcher:
    """Chooses tiles and work-groups for one device.

    Tile sizes are parameters of the templates; these are defaults by device class. A CPU wants
    much work in each work-item (one item runs on one core), a GPU wants many items.

    Args:
        device: that runs it.
        precision: of the weights. Products with them, and those of attention, are computed in half
            precision where they are and the device can.
    """

    def __init__(self, device: DeviceSpec, precision: Precision) -> None:
        self.device = device
        self.half = precision is Precision.FP16 and device.limits.half_arithmetic
        self.cpu = device.kind == "cpu"
        self.widest = 1 << device.limits.max_work_group.bit_length() - 1
        self.group = power_of_two(device.work_group, min(self.widest, MOST_ROW_GROUP))

    def call(self, op: Op, s: Signature) -> KernelCall:
        """The launch of `op`; the signature already has its texture, if it has one."""
        made = _GEOMETRY[op.kind](self, op, s)
        params = tuple(sorted((made.params | s.params()).items()))
        return KernelCall(made.template, params, tuple(s.args), made.global_size, made.local_size)

    def _local(self, count: int, most: int) -> int:
        """Work-items of a group along a dimension of `count` items: a power of two."""
        return power_of_two(count, min(most, self.widest))

    def map(self, op: Op, s: Signature) -> Geometry:
        """One work-item for each element, in as few dimensions as its views allow."""
        shape, views = st.collapse(op.out.shape, [r.strides for r in (*op.extras, op.out)])
        refs = [
            Ref(ref.tensor, ref.offset, shape, strides)
            for ref, strides in zip((*op.extras, op.out), views, strict=True)
        ]
        s.store(replace(op, extras=refs[:-1], out=refs[-1]))
        s.integers(**{f"n{axis}": extent for axis, extent in enumerate(shape)})
        rank = len(shape)
        columns, rows = shape[-1], shape[-2] if rank > 1 else 1
        local = self._local(columns, 64)
        size = (up(columns, local), rows, prod(shape[:-2]))
        return Geometry("map.cl", {"rank": rank}, size, (local, 1, 1))

    def product(self, op: Op, s: Signature) -> Geometry:
        """Rows of `a` times a texture, or times an activation `b`."""
        for name, ref in op.operands.items():
            s.view(name, ref)
        s.store(op)
        _, b1, m, n = op.out.shape
        s.integers(m_size=m, n_size=n, k_size=op.operands["a"].shape[3], batch=b1)
        if self.cpu:
            return panel_product(op, s)
        return blocks.product(op, s, self.device, half=self.half)

    def attention(self, op: Op, s: Signature) -> Geometry:
        """Rows of queries against all keys, by blocks or with scores in private memory."""
        masks = dict(op.operands)
        query, key, value = (masks.pop(name) for name in ("query", "key", "value"))
        s.view("query", query)
        s.view("key", key)
        s.view("value", value)
        body = op.attrs["scores"]
        assert isinstance(body, Body), "set when the pattern was joined"
        s.score(body, masks)
        s.store(op)
        b0, b1, m, _ = op.out.shape
        s.integers(m_size=m, n_size=key.shape[3], batch=b1)
        team = None if self.cpu else blocks.attention_team(op, self.device.limits, half=self.half)
        if team is not None:
            return blocks.attention(op, team, half=self.half)
        # On a CPU a lane of a vector is a row; on a GPU a work-item is.
        lanes = power_of_two(m, 16) if self.cpu else 1
        params: dict[str, object] = {
            "lanes": lanes,
            "keys": 8 if self.cpu else 4,
            "block": 64 if self.cpu else 16,
            "head": query.shape[3],
            "depth": value.shape[3],
            "guarded": op.integer("guarded"),
        }
        rows = up(m, lanes) // lanes
        local = 1 if self.cpu else self._local(rows, 64)
        return Geometry("attention.cl", params, (up(rows, local), b0 * b1), (local, 1))

    def conv(self, op: Op, s: Signature) -> Geometry:
        """Convolution by panels or blocks, or directly, four output channels a work-item."""
        if by_panels(op, self.cpu):
            return panel_conv(op, s)
        if not self.cpu and blocks.by_blocks(op):
            same = blocks.as_product(op)
            if same is not None:
                return self.product(same, s)
            return blocks.conv(op, s, self.device, half=self.half)
        quarters = _convolution(op, s)
        n, _, height, width = op.out.shape
        tile = power_of_two(width, 4)
        params = {**window(op), "columns": tile, "grouped": int(op.integer("groups") > 1)}
        across = up(width, tile) // tile
        local = self._local(across, 16)
        size = (up(across, local), height, n * quarters)
        return Geometry("conv.cl", params, size, (local, 1, 1))

    def depthwise(self, op: Op, s: Signature) -> Geometry:
        """Depthwise convolution by planes, or a run of pixels of four channels a work-item."""
        if self.cpu and by_planes(op):
            return planes(op, s)
        x, channels = op.operands["x"], op.out.shape[1]
        s.view("x", x)
        s.store(op)
        n, _, height, width = op.out.shape
        quarter = up(channels, 4) // 4
        s.integers(
            in_height=x.shape[2], in_width=x.shape[3], out_width=width,
            channels=channels, quarters=quarter,
        )  # fmt: skip
        tile = power_of_two(width, 4)
        across = up(width, tile) // tile
        local = self._local(across, 1 if self.cpu else 16)
        params = {**window(op), "columns": tile}
        size = (up(across, local), height, n * quarter)
        return Geometry("depthwise.cl", params, size, (local, 1, 1))

    def deconv(self, op: Op, s: Signature) -> Geometry:
        """Transposed convolution by panels, or one pixel of four output channels a work-item."""
        if by_panels(op, self.cpu):
            return panel_conv(op, s)
        quarters = _convolution(op, s)
        n, _, height, width = op.out.shape
        local = self._local(width, 4 if self.cpu else 32)
        size = (up(width, local), height, n * quarters)
        return Geometry("deconv.cl", window(op), size, (local, 1, 1))

    def pool(self, op: Op, s: Signature) -> Geometry:
        """Pooling by planes, or one work-item for each output."""
        return planes(op, s) if self.cpu and by_planes(op) else self.by_element(op, s)

    def by_row(self, op: Op, s: Signature) -> Geometry:
        """Row operations: one work-group a row; in vectors where that is one work-item."""
        x = op.operands["x"]
        s.view("x", x)
        s.store(op)
        r0, r1, r2, count = x.shape
        s.integers(count=count, middle=r1)
        params = {k: _c(v) for k, v in op.attrs.items()}
        group = self._row_group(count)
        keeps = op.kind != "reduce"
        short = group == 1 and keeps and count <= LANES * ROW_VECTORS
        share = -(-count // group)
        params |= {
            "group": group,
            "vectors": ROW_VECTORS if short else 0,
            "held": share if keeps and group > 1 and share <= MOST_HELD else 0,
        }
        return Geometry(f"{op.kind}.cl", params, (group, r2, r0 * r1), (group, 1, 1))

    def _row_group(self, count: int) -> int:
        """Work-items that walk one row of `count` elements; a core walks its row alone."""
        if self.group == 1:
            return 1
        most = MOST_ROW_GROUP if count <= LONG_ROW else self.widest
        return min(max(self.group, power_of_two(-(-count // FEWEST_HELD), most)), self.widest)

    def scan(self, op: Op, s: Signature) -> Geometry:
        """Running sums: one work-item a row."""
        x = op.operands["x"]
        s.view("x", x)
        s.store(op)
        r0, r1, r2, count = x.shape
        s.integers(count=count, rows=r2)
        local = self._local(r2, 32)
        return Geometry(f"{op.kind}.cl", dict(op.attrs), (up(r2, local), r1, r0), (local, 1, 1))

    def gather(self, op: Op, s: Signature) -> Geometry:
        """Rows chosen by indices on the device."""
        s.view("x", op.operands["x"])
        s.view("index", op.operands["index"])
        s.store(op)
        _, outer, rows, inner = op.out.shape
        s.integers(extent=op.integer("extent"), inner=inner)
        local = self._local(inner, 64)
        return Geometry("gather.cl", {}, (up(inner, local), rows, outer), (local, 1, 1))

    def by_element(self, op: Op, s: Signature) -> Geometry:
        """One work-item for each output element of (n, c, y, x), or row where a core resizes."""
        for name, ref in op.operands.items():
            s.view(name, ref)
        s.store(op)
        n, c, height, width = op.out.shape
        x = op.operands["x"]
        s.integers(channels=c, out_width=width)
        s.integers(**{f"in{axis}": extent for axis, extent in enumerate(x.shape)})
        params = {k: _c(v) for k, v in op.attrs.items()}
        if op.kind == "resize":
            by_line = self.cpu and x.shape[3] <= MOST_LINE and op.integer("nx") <= MOST_LINE_TAPS
            params["line"] = MOST_LINE if by_line else 0
            if by_line:
                return Geometry("resize.cl", params, (1, height, n * c), (1, 1, 1))
        local = self._local(width, 64)
        return Geometry(f"{op.kind}.cl", params, (up(width, local), height, n * c), (local, 1, 1))


def _convolution(op: Op, s: Signature) -> int:
    """Arguments of a kernel whose work-items have four output channels of a group each.

    Returns:
        How many such quarters there are in all groups.
    """
    x, groups = op.operands["x"], op.integer("groups")
    s.view("x", x)
    s.store(op)
    _, channels, _, width = op.out.shape
    quarters = groups * (up(channels // groups, 4) // 4)
    s.integers(
        in_height=x.shape[2], in_width=x.shape[3], out_width=width,
        group_in=x.shape[1] // groups, group_out=channels // groups, quarters=quarters,
    )  # fmt: skip
    return quarters


def _c(value: object) -> object:
    return literal(value, "float32") if isinstance(value, float) else value


_GEOMETRY: dict[str, Callable[[Launcher, Op, Signature], Geometry]] = {
    "map": Launcher.map,
    "gemm": Launcher.product,
    "matmul": Launcher.product,
    "attention": Launcher.attention,
    "conv": Launcher.conv,
    "depthwise": Launcher.depthwise,
    "deconv": Launcher.deconv,
    "softmax": Launcher.by_row,
    "normalise": Launcher.by_row,
    "reduce": Launcher.by_row,
    "scan": Launcher.scan,
    "gather": Launcher.gather,
    "pool": Launcher.pool,
    "resize": Launcher.by_element,
    "pad": Launcher.by_element,
}
