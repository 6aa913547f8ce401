"""Launches for GPUs: one work-group, one block of a product; see kernels/block.h.

Convolutions and attention are products too. Which tile a size is best cut into is measured by
`flashmem-lab profile` (`DeviceSpec.tuning`); before that, it is chosen by how many work-groups a
tile makes.
"""

from __future__ import annotations

from dataclasses import replace
from math import gcd, prod

from flashmem_lab.device.spec import DeviceSpec, Limits
from flashmem_lab.device.tuning import Product, Tile
from flashmem_lab.lower.ir import Op, Ref
from flashmem_lab.lower.layer import Storage
from flashmem_lab.lower.signature import Signature
from flashmem_lab.lower.textures import default_storage
from flashmem_lab.lower.tiles import Geometry, down_first, one_row_a_plane, power_of_two, window

TILES = (
    Tile(8, 8, 16, 16, 1, 16),
    Tile(8, 8, 16, 8, 1, 16, shares=4),
    Tile(8, 8, 8, 8, 2, 16),
    Tile(8, 8, 8, 8, 4, 32, shares=4),
    Tile(8, 8, 4, 8, 4, 32),
    Tile(8, 8, 4, 8, 4, 32, shares=4),
    Tile(8, 4, 8, 8, 4, 32, shares=8),
    Tile(8, 8, 4, 8, 8, 32),
    Tile(8, 4, 8, 8, 4, 32),
    Tile(8, 8, 8, 8, 2, 16, shares=4),
    Tile(4, 4, 8, 8, 4, 32),
    Tile(4, 4, 8, 8, 1, 8),
)
"""What tuning tries, in the order in which they are taken without it; the last fits every device.

Each is the fastest of some 30 at one size of `profiling.tune` or more, on an H100 (2026-11-22).
"""

LARGE = 48 * 1024  # bytes of local memory; phones' GPUs have 32 KiB, and fewer multiprocessors
GROUPS = 256  # work-groups that keep a large GPU busy
FEW_GROUPS = 32  # and a small one
SHARE_STEPS = 640  # of each share of a convolution at least, before tuning says more
FEW_ROWS = 4  # up to which a product is bound by its weight, and gemv.cl reads that best
NOISE = 0.03  # of two measurements, below which neither is slower
LEAST_CHANNELS = 16  # of a group, below which a tile of a convolution would be mostly padding


def tiles_for(limits: Limits) -> tuple[Tile, ...]:
    """The tiles that the device has local memory and work-items for; at least one."""
    return tuple(tile for tile in TILES if _fits(tile, limits)) or TILES[-1:]


def _fits(tile: Tile, limits: Limits) -> bool:
    return tile.threads <= limits.max_work_group and tile.local_bytes <= limits.local_memory


def tile_for(device: DeviceSpec, kind: str, size: Product) -> Tile:
    """The tile of an operation: as measured at the most similar size, or by the work-groups.

    What was measured may be another device's, and is not taken where this one has no room for it.
    """
    known = device.tuning.nearest(kind, size)
    if known is not None and known.tile is not None and _fits(known.tile, device.limits):
        return known.tile
    large = device.limits.local_memory >= LARGE
    tiles = [
        tile
        for tile in tiles_for(device.limits)
        if tile.shares == 1 or (large and kind == "conv" and _shareable(tile, size))
    ]
    for tile in tiles:
        if _groups(tile, size) * tile.shares >= (GROUPS if large else FEW_GROUPS):
            return tile
    return max(tiles, key=lambda tile: (_groups(tile, size) * tile.shares, tile.slices))


def _shareable(tile: Tile, size: Product) -> bool:
    return size.batch == 1 and size.k >= SHARE_STEPS * tile.shares


def size_of(op: Op) -> Product:
    """The product that an operation of kind "gemm", "matmul" or "conv" is."""
    if op.kind == "conv":
        n, channels, height, width = op.out.shape
        groups = op.integer("groups")
        steps = op.operands["x"].shape[1] // groups * op.integer("kh") * op.integer("kw")
        n //= _shares(op)
        return Product(n * groups, height * width, channels // groups, steps)
    b0, b1, m, n = op.out.shape
    return Product(b0 * b1 // _shares(op), m, n, op.operands["a"].shape[3])


def kind_of(op: Op) -> str:
    """Whether tiles of products or of convolutions are right for a "gemm" or a "conv"."""
    return "gemm" if op.kind == "conv" and as_product(op) is not None else op.kind


def is_few_rows(kind: str, size: Product) -> bool:
    """True if gemv.cl computes it: so few rows that reading the weight is all that takes time."""
    return kind == "gemm" and size.m <= FEW_ROWS


def _shares(op: Op) -> int:
    """How many work-groups share a block; the result has one more axis entry for each."""
    shares = op.attrs.get("shares", 1)
    assert isinstance(shares, int), "set by share_long"
    return shares


def storage_of(op: Op, device: DeviceSpec) -> Storage:
    """Where the operation's weight lies best: as measured, and in an image where that is no slower.

    What was not measured lies where the device's class is faster with it.
    """
    default = default_storage(device)
    if op.kind not in ("gemm", "conv") or not device.limits.images:
        return default
    known = device.tuning.nearest(kind_of(op), size_of(op))
    if known is None or not known.image_ns or not known.buffer_ns:
        return default
    slower = known.image_ns > known.buffer_ns * (1 + NOISE)
    return Storage.BUFFER if slower else Storage.IMAGE2D


def _groups(tile: Tile, size: Product) -> int:
    return size.batch * -(-size.m // tile.high) * -(-size.n // tile.wide)


def product(op: Op, s: Signature, device: DeviceSpec, *, half: bool) -> Geometry:
    """Rows of `a` times a texture, or times an activation `b`; the signature has its sizes.

    With `half`, products with a texture are computed in half precision.
    """
    size = size_of(op)
    if is_few_rows(op.kind, size):
        return _few_rows(op, size, device.limits)
    tile, shares = tile_for(device, op.kind, size), _shares(op)
    a = op.operands["a"]
    params = _params(tile) | {
        "shares": shares,
        "textured": int(op.kind == "gemm"),
        "half": int(half and op.kind == "gemm"),
        "whole": int(size.k % tile.depth == 0),
        "down_first": int(down_first(op)),
        "a_fast": _fast(a, 3, 2),
        "a_vector": int(_in_fours(a, 3 if _fast(a, 3, 2) == "step" else 2)),
    }
    if op.kind == "matmul":
        b = op.operands["b"]
        params["b_fast"] = _fast(b, 2, 3)
        params["b_vector"] = int(_in_fours(b, 2 if _fast(b, 2, 3) == "step" else 3))
    across = -(-size.n // tile.wide) * tile.threads
    global_size = (across, -(-size.m // tile.high), size.batch * shares)
    return Geometry("block_product.cl", params, global_size, (tile.threads, 1, 1))


def _few_rows(op: Op, size: Product, limits: Limits) -> Geometry:
    across, slices = 8, power_of_two(limits.max_work_group, 256) // 8
    params = {"rows": size.m, "across": across, "slices": slices}
    columns = -(-size.n // 4)
    groups = (-(-columns // across) * across * slices, 1, size.batch)
    return Geometry("gemv.cl", dict(params), groups, (across * slices, 1, 1))


def by_blocks(op: Op) -> bool:
    """True if a GPU does the convolution by blocks; else its groups have too few channels."""
    groups = op.integer("groups")
    return groups == 1 or op.out.shape[1] // groups >= LEAST_CHANNELS


def as_product(op: Op) -> Op | None:
    """A convolution by windows of one pixel as a product of pixels and channels, if it is one."""
    w = window(op)
    plain = (w["kh"], w["kw"], w["sh"], w["sw"], w["ph"], w["pw"]) == (1, 1, 1, 1, 0, 0)
    x = op.operands["x"]
    if not plain or op.integer("groups") != 1 or x.shape[2:] != op.out.shape[2:]:
        return None
    refs = [_pixels_by_channels(ref) for ref in (x, op.out, *op.extras)]
    found = [ref for ref in refs if ref is not None]
    if len(found) < len(refs):
        return None
    return replace(op, kind="gemm", operands={"a": found[0]}, out=found[1], extras=found[2:])


def _pixels_by_channels(ref: Ref) -> Ref | None:
    """(n, c, h, w) as (n, 1, h * w, c), if no copy is needed for that."""
    n, c, height, width = ref.shape
    flat = ref.reshape((n, 1, c, height * width))
    return None if flat is None else flat.permute((0, 1, 3, 2))


def conv(op: Op, s: Signature, device: DeviceSpec, *, half: bool) -> Geometry:
    """Convolution as a product of pixels and channels, the pixels gathered tap by tap.

    With `half`, in half precision.
    """
    x, (n, channels, height, width) = op.operands["x"], op.out.shape
    op, flat = one_row_a_plane(op)
    s.view("x", x)
    s.store(op)
    groups = op.integer("groups")
    group_in, group_out = x.shape[1] // groups, channels // groups
    s.integers(
        in_height=x.shape[2], in_width=x.shape[3], out_width=width, out_pixels=height * width,
        group_in=group_in, group_out=group_out, groups=groups,
    )  # fmt: skip
    tile = tile_for(device, "conv", size_of(op))
    params = _params(tile) | window(op) | {
        "shares": _shares(op),
        "by_tap": int(group_in >= tile.depth),
        "whole": int(group_in % tile.depth == 0),
        "grouped": int(groups > 1),
        "flat": int(flat),
        "half": int(half),
        "down_first": 1,
    }  # fmt: skip
    across = -(-group_out // tile.wide) * tile.threads
    global_size = (across, -(-height * width // tile.high), n * groups)
    return Geometry("block_conv.cl", params, global_size, (tile.threads, 1, 1))


ATTENTION = ((16, 8), (8, 8), (4, 8), (4, 4))
"""Work-items of a team (down, across) of attention, each with 4 queries and 4 keys."""


BUSY_TEAMS = 64  # work-groups of attention, fewer than which smaller ones are better
HALF_STEPS = 16  # of attention's products that are summed in half precision; then in float
LEAST_TEAM = 32  # work-items that an NVIDIA multiprocessor runs as one


def attention_team(op: Op, limits: Limits, *, half: bool) -> tuple[int, int] | None:
    """The largest team that the device has local memory for and that leaves enough of them."""
    b0, b1, m, depth = op.out.shape
    head = op.operands["query"].shape[3]
    fits = []
    for down, across in ATTENTION:
        spread = -(-depth // across) * across
        pool = max(head * (4 * across + 4), 4 * across * spread)
        tiles = head * (4 * down + 4) + pool + 16 * across * down
        needed = tiles * (2 if half else 4) + 16 * across * down
        if needed <= limits.local_memory and down * across <= limits.max_work_group:
            fits.append((down, across))
    if head % 4 or not fits:
        return None
    busy = [team for team in fits if b0 * b1 * -(-m // (4 * team[0])) >= BUSY_TEAMS]
    wide = [team for team in fits if prod(team) >= LEAST_TEAM]
    return next(iter([*busy, *wide[::-1], *fits]))


def attention(op: Op, team: tuple[int, int], *, half: bool) -> Geometry:
    """Blocks of queries against all keys; the signature has the views.

    With `half`, both products are computed in half precision.
    """
    query, key = op.operands["query"], op.operands["key"]
    down, across = team
    b0, b1, m, depth = op.out.shape
    q_fast, k_fast = _fast(query, 3, 2), _fast(key, 2, 3)
    params: dict[str, object] = {
        "rows": 4, "columns": 4, "down": down, "across": across, "slices": 1, "shares": 1,
        "head": query.shape[3], "depth": depth, "guarded": op.integer("guarded"),
        "half": int(half), "score_steps": gcd(query.shape[3], HALF_STEPS),
        "value_steps": gcd(4 * across, HALF_STEPS),
        "q_fast": q_fast, "q_vector": int(_in_fours(query, 3 if q_fast == "step" else 2)),
        "k_fast": k_fast, "k_vector": int(_in_fours(key, 2 if k_fast == "step" else 3)),
    }  # fmt: skip
    threads = down * across
    return Geometry(
        "block_attention.cl", params, (-(-m // (4 * down)) * threads, b0 * b1), (threads, 1)
    )


def _params(tile: Tile) -> dict[str, object]:
    return {
        "rows": tile.rows, "columns": tile.columns, "down": tile.down, "across": tile.across,
        "slices": tile.slices, "depth": tile.depth,
    }  # fmt: skip


def _fast(ref: Ref, step: int, along: int) -> str:
    """Which dimension's neighbours are neighbours in memory: the reduction's, or the result's."""
    return "along" if ref.strides[along] == 1 and ref.strides[step] != 1 else "step"


def _in_fours(ref: Ref, axis: int) -> bool:
    """True if every four neighbours along `axis` are an aligned float4."""
    return (
        ref.dtype == "float32"
        and ref.strides[axis] == 1
        and ref.shape[axis] % 4 == 0
        and ref.offset % 4 == 0
        and all(
            stride % 4 == 0
            for place, digits in enumerate(ref.digits())
            for extent, stride in digits
            if place != axis and extent > 1
        )
        and not any(split == axis for split, _ in ref.split)
    )
