"""What tuning found on a device: the fastest tile of each shape, and what its weight lies in."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2


@dataclass(frozen=True, slots=True)
class Tile:
    """How a work-group shares the sums of a product; see kernels/block.h.

    Attributes:
        rows, columns: sums of a work-item, multiples of 4.
        down, across: work-items of a team.
        slices: teams that share the steps of a tile.
        depth: steps of the reduction in local memory at a time, a multiple of 4 and of `slices`.
        shares: work-groups that share the steps of a block; what they summed is added afterwards.
    """

    rows: int
    columns: int
    down: int
    across: int
    slices: int
    depth: int
    shares: int = 1

    @property
    def threads(self) -> int:
        """Work-items of a group."""
        return self.down * self.across * self.slices

    @property
    def high(self) -> int:
        """Rows of the result that a group computes."""
        return self.rows * self.down

    @property
    def wide(self) -> int:
        """Columns of the result that a group computes."""
        return self.columns * self.across

    @property
    def local_bytes(self) -> int:
        """Local memory at most: two stages of both operands, padded, or the sums of a team."""
        stages = 2 * self.depth * (self.high + 4 + self.wide + 4)
        return 4 * max(stages, self.high * self.wide if self.slices > 1 else 0)


@dataclass(frozen=True, slots=True)
class Product:
    """The size of a product: `batch` times (m, k) @ (k, n).

    A convolution is one of pixels (m), taps of input channels (k) and output channels (n).
    """

    batch: int
    m: int
    n: int
    k: int

    def apart(self, other: Product) -> float:
        """Doublings between two sizes, all dimensions together."""
        pairs = zip(
            (self.batch, self.m, self.n, self.k), (other.batch, other.m, other.n, other.k),
            strict=True,
        )  # fmt: skip
        return sum(abs(log2(a / b)) for a, b in pairs)


@dataclass(frozen=True, slots=True)
class Best:
    """What was fastest at one size.

    Attributes:
        kind: of layer: "gemm", "matmul" or "conv".
        size: that was measured.
        tile: fastest there; None on a CPU, which has none.
        image_ns, buffer_ns: the kernel's time with its weight in either; 0 where not measured.
    """

    kind: str
    size: Product
    tile: Tile | None
    image_ns: int = 0
    buffer_ns: int = 0


@dataclass(frozen=True, slots=True)
class Tuning:
    """What `flashmem-lab profile` found; empty on a device that was not profiled.

    Attributes:
        kernels: digest of the kernel sources that it holds for.
        best: by kind and size.
    """

    kernels: str = ""
    best: tuple[Best, ...] = ()

    def nearest(self, kind: str, size: Product) -> Best | None:
        """What was found at the most similar size of that kind, if anything."""
        known = [best for best in self.best if best.kind == kind]
        return min(known, key=lambda best: best.size.apart(size), default=None)
