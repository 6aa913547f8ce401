"""Windows over planes for processors whose work-items each own a core; see kernels/planes.h.

Depthwise convolution and pooling: a work-item computes a block of a few planes, one plane after
another, in vectors along x.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from flashmem_lab.lower.ir import Op
from flashmem_lab.lower.signature import Signature
from flashmem_lab.lower.tiles import MOST_TAPS, Geometry, up, window

ROOM = 6144  # floats of a block with its padding: 24 KiB of a core's cache
MOST_ROOM = 1 << 16  # a block beyond that would outgrow the stack
MOST_PHASES = 16  # copies of a block; one for each tap would do nothing but copy
FEWEST_PIXELS = 8  # of an output plane; fewer would leave most lanes idle
MOST_WIDTH = 256  # pixels of a block
VECTORS = 4  # of 16 pixels, at a time
FEWEST_ITEMS = 16  # where planes are few, rows are shared out
FEWEST_ROWS = 8  # but not below this
ITEM_PIXELS = 2048  # of a work-item at least: it takes several planes where they are small


@dataclass(frozen=True, slots=True)
class _Block:
    """How planes are cut.

    Attributes:
        height, width: pixels of the output.
        phases_high, phases_wide: residues of the strides that taps have.
        room: floats of the block with its padding, over all phases.
    """

    height: int
    width: int
    phases_high: int
    phases_wide: int
    room: int


def by_planes(op: Op) -> bool:
    """True if `op`, a window over planes of floats, fits a core and gains by its vectors."""
    block, taps = _block(op), op.integer("kh") * op.integer("kw")
    fits = taps <= MOST_TAPS and block.room <= MOST_ROOM
    phases, pixels = block.phases_high * block.phases_wide, op.out.shape[2] * op.out.shape[3]
    gains = phases <= MOST_PHASES and pixels >= FEWEST_PIXELS
    return op.operands["x"].dtype == "float32" and fits and gains


def _block(op: Op) -> _Block:
    n, channels, height, width = op.out.shape
    kh, kw, sh, sw, dh, dw = (op.integer(name) for name in ("kh", "kw", "sh", "sw", "dh", "dw"))
    high, wide = min(kh, sh // gcd(sh, dh)), min(kw, sw // gcd(sw, dw))
    below, right = (kh - 1) * dh // sh, (kw - 1) * dw // sw
    across = -(-width // MOST_WIDTH)
    columns = -(-width // across)
    line = high * wide * (columns + right)
    # A strip no lower than what it shares with the next one, whatever the room.
    most = max(ROOM // line - below, min(height, below), 1)
    shares = -(-FEWEST_ITEMS // (n * -(-channels // 4) * across))
    strips = max(-(-height // most), min(shares, height // FEWEST_ROWS))
    rows = -(-height // strips)
    return _Block(rows, columns, high, wide, max(ROOM, line * (rows + below)))


def planes(op: Op, s: Signature) -> Geometry:
    """Blocks of planes, of four channels or more a work-item, as a texel has four."""
    x, (n, channels, height, width) = op.operands["x"], op.out.shape
    block = _block(op)
    s.view("x", x)
    s.store(op)
    quarters = up(channels, 4) // 4
    together = ITEM_PIXELS // (4 * block.height * block.width)
    together = max(1, min(together, n * quarters // FEWEST_ITEMS))
    s.integers(
        in_height=x.shape[2], in_width=x.shape[3], x_size=x.tensor.size,
        out_height=height, out_width=width, channels=channels,
        block_height=block.height, block_width=block.width, block_channels=4 * together,
    )  # fmt: skip
    params: dict[str, object] = {
        **window(op),
        "phases_high": block.phases_high, "phases_wide": block.phases_wide,
        "room": block.room, "vectors": VECTORS, "neighbours": int(x.strides[3] == 1),
    }  # fmt: skip
    if op.kind == "pool":
        params |= {"most_width": MOST_WIDTH}
        params |= {name: op.attrs[name] for name in ("maximum", "count_padding", "eh", "ew")}
    size = (-(-width // block.width), -(-height // block.height), n * -(-quarters // together))
    return Geometry(f"plane_{op.kind}.cl", params, size, (1, 1, 1))
