"""Launches for processors whose work-items each own a core: one work-item, one block of the result.

A work-item packs a panel of one operand (texels, or pixels under the taps of a convolution) and
runs a register tile over it, so that each texel is read once for many rows. Sizes are for caches of
32 KiB and 512 KiB a core, and for 32 vector registers of 16 floats.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd

from flashmem_lab.lower.ir import Op
from flashmem_lab.lower.signature import Signature
from flashmem_lab.lower.textures import MOST_COLUMNS, panel_columns

LANES = 16  # floats of a vector
TILE_ROWS = 8  # of a register tile; with two vectors of sums each
DEPTH = 256  # steps of a panel
BLOCK = 256  # rows of a block of a product
PIXELS = 256  # of a block of a convolution
CHANNELS = 64  # output channels of a block of a convolution
BUSY = 4  # work-items, below which larger blocks would leave cores idle
LEAST_ROWS = 4  # fewer sums than that wait for each other
STORE_STEPS = 32  # of a reduction, as long as it takes to store sums that lie by pixels
CONV_STEPS = 144  # steps of a convolution's panel, about
MOST_TAPS = 1024  # a window beyond that would outgrow the stack


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a kernel is launched.

    Attributes:
        template: file in kernels/.
        params: template parameters, besides those of the signature.
        global_size, local_size: work-items.
    """

    template: str
    params: dict[str, object]
    global_size: tuple[int, ...]
    local_size: tuple[int, ...]


def up(value: int, unit: int) -> int:
    """`value` rounded up to a multiple of `unit`."""
    return -(-value // unit) * unit


def power_of_two(value: int, most: int) -> int:
    """Least power of two that is >= value, at most `most`."""
    return min(most, 1 << max(0, value - 1).bit_length())


def even(count: int, most: int, unit: int) -> int:
    """Size of the blocks, multiples of `unit`, that share `count` evenly, `most` at most."""
    blocks = -(-count // most)
    return up(-(-count // blocks), unit)


def down_first(op: Op) -> bool:
    """True if neighbours in memory are rows of the product's result, not columns."""
    return op.out.strides[2] == 1 and op.out.strides[3] != 1


def panel_product(op: Op, s: Signature) -> Geometry:
    """Rows of `a` times a texture, or times an activation `b`; the signature has its sizes."""
    b0, b1, m, n = op.out.shape
    rows = power_of_two(m, TILE_ROWS)
    columns = panel_columns(n) if op.weight else MOST_COLUMNS
    block = even(m, BLOCK, rows)
    s.integer("block", block)
    params: dict[str, object] = {
        "textured": int(op.weight is not None), "down_first": int(down_first(op)),
        "tile_rows": rows, "lanes": MOST_COLUMNS // LANES, "columns": columns,
        "most_rows": BLOCK, "depth": DEPTH,
    }  # fmt: skip
    size = (-(-n // columns), -(-m // block), b0 * b1)
    return Geometry("panel_product.cl", params, size, (1, 1, 1))


def by_panels(op: Op, cpu: bool) -> bool:
    """True if the operation's weight is laid out, and read, by panels."""
    if op.kind in ("conv", "deconv"):
        return cpu and op.integer("kh") * op.integer("kw") <= MOST_TAPS
    return cpu and op.kind == "gemm"


def one_row_a_plane(op: Op) -> tuple[Op, bool]:
    """An operation on (n, channels, height, width) that stores each plane as one row, and True.

    The operation as it was, and False, where its views cannot be laid out so.
    """
    n, channels, height, width = op.out.shape
    flat = [ref.reshape((n, channels, 1, height * width)) for ref in (op.out, *op.extras)]
    refs = [ref for ref in flat if ref is not None]
    if len(refs) < len(flat):
        return op, False
    return replace(op, out=refs[0], extras=refs[1:]), True


def panel_conv(op: Op, s: Signature) -> Geometry:
    """Convolution as a product of channels and pixels; the pixels of a plane are one row.

    The pixels of a transposed one fall into sets, as many as its strides have steps, each of which
    is a plane of its own.
    """
    x, (n, channels, height, width) = op.operands["x"], op.out.shape
    transposed = op.kind == "deconv"
    sh, sw = op.integer("sh"), op.integer("sw")
    down, across = (-(-height // sh), -(-width // sw)) if transposed else (height, width)
    flat = False
    if not transposed:
        op, flat = one_row_a_plane(op)
    s.view("x", x)
    s.store(op)
    groups = op.integer("groups")
    group_in, group_out = x.shape[1] // groups, channels // groups
    columns = panel_columns(group_out)
    kh, kw = op.integer("kh"), op.integer("kw")
    if transposed:  # those that reach a pixel
        kh = -(-kh // (sh // gcd(sh, op.integer("dh"))))
        kw = -(-kw // (sw // gcd(sw, op.integer("dw"))))
    taps = kh * kw
    neighbours = x.shape[3] == 1 or x.strides[3] == 1
    as_wide = width == x.shape[3] * sw if transposed else (sh, sw, width) == (1, 1, x.shape[3])
    rows_follow = x.shape[2] == 1 or x.strides[2] == x.shape[3]
    shifted = as_wide and neighbours and rows_follow
    rows, by_channels = TILE_ROWS, False
    if not transposed:
        rows, by_channels = _conv_tile(down * across, group_out, group_in * taps)
    pixels = even(down * across, PIXELS, rows if by_channels else 2 * LANES)
    # Pixels that are no neighbours are gathered one by one: best for as many channels as possible.
    items = n * groups * -(-down * across // pixels) * (group_out // (2 * CHANNELS))
    wide = not shifted and items >= BUSY and taps <= MOST_TAPS // 2
    most = 2 * CHANNELS if wide else CHANNELS
    block = columns * min(-(-group_out // columns), most // columns)
    s.integers(
        in_height=x.shape[2], in_width=x.shape[3], x_size=x.tensor.size,
        out_height=height, out_width=width, group_in=group_in, group_out=group_out,
        block_channels=block, block_pixels=pixels,
    )  # fmt: skip
    params: dict[str, object] = {
        **window(op),
        "flat": int(flat),
        "transposed": int(transposed),
        "shifted": int(shifted),
        "most_taps": taps, "inputs": max(1, CONV_STEPS // taps),
        "columns": columns, "channels": most, "pixels": PIXELS,
        "by_channels": int(by_channels), "tile_rows": rows,
        "lanes": min(4, -(-pixels // LANES)) if by_channels else 2,
    }  # fmt: skip
    sets = sh * sw if transposed else 1
    size = (-(-down * across // pixels), groups * -(-group_out // block), n * sets)
    return Geometry("panel_conv.cl", params, size, (1, 1, 1))


def _conv_tile(pixels: int, channels: int, steps: int) -> tuple[int, bool]:
    """Rows of a convolution's register tile, and whether its vectors are of channels.

    Vectors of pixels leave lanes idle where planes are small: 49 pixels take two tiles of 32. There
    the rows are pixels, unless the reduction is too short to make up for storing them by planes.
    """
    fits = range(TILE_ROWS, min(pixels, LEAST_ROWS) - 1, -1)
    rows = min(fits, key=lambda rows: up(pixels, rows))  # the most of them, if several are as good
    along_pixels = up(pixels, 2 * LANES) * up(channels, TILE_ROWS) * steps
    along_channels = up(pixels, rows) * up(channels, 2 * LANES) * steps
    if along_channels + STORE_STEPS * pixels * channels < along_pixels:
        return rows, True
    return TILE_ROWS, False


def window(op: Op) -> dict[str, object]:
    """Template parameters of a convolution's or a pool's window."""
    return {key: op.attrs[key] for key in ("kh", "kw", "sh", "sw", "dh", "dw", "ph", "pw")}
