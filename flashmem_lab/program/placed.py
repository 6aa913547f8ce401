"""Kernels told where their operands begin in a buffer that holds many of them.

A kernel can be given a part of a buffer as an object of its own, which takes NVIDIA's driver longer
for each launch the more parts there are (driver 580, 519 launches of SD-UNet over 112 parts: 35 ms,
and 16 where it sees none, 2026-11). So kernels are rewritten, all alike: for each pointer comes a
number, the byte at which it begins.

Images can be told the same. A texture that is one line of texels over the whole buffer
(image1d_buffer_t) holds them all, row behind row, and for each image come its first texel and the
texels of a row. On an H100 kernels take as long as with images of their own (SD-UNet's and
GPT-Neo-1.3B's: 0.92 to 1.03, one 1.24; 0.995 in all) and compute the same, bit for bit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from flashmem_lab.program.program import KernelSource
from flashmem_lab.program.rewrite import arguments_of, extended

_POINTER = "__global "
_IMAGE, _LINE = "__read_only image2d_t ", "__read_only image1d_buffer_t "
_TEXEL = """\
static inline int texel_at(int2 at, int begin, int row) { return begin + at.y * row + at.x; }
"""


class Told(Enum):
    """What a number says of an operand."""

    BEGIN = auto()  # the byte at which it begins
    FIRST_TEXEL = auto()  # of an image in a line of texels
    ROW_TEXELS = auto()  # how many a row of that image has


@dataclass(frozen=True, slots=True)
class Number:
    """A number that a placed kernel takes.

    Attributes:
        argument: the operand that it is about, by place.
        told: what it says of it.
    """

    argument: int
    told: Told

    @property
    def type(self) -> str:
        """In OpenCL C."""
        return "ulong" if self.told is Told.BEGIN else "int"


def numbers(kernel: KernelSource, *, lines: bool) -> tuple[Number, ...]:
    """What `placed` adds to the arguments of `kernel`, in order."""
    found: list[Number] = []
    for at, text in enumerate(arguments_of(kernel)):
        if text.startswith(_POINTER):
            found.append(Number(at, Told.BEGIN))
        elif lines and text.startswith(_IMAGE):
            found += [Number(at, Told.FIRST_TEXEL), Number(at, Told.ROW_TEXELS)]
    return tuple(found)


def placed(kernel: KernelSource, *, lines: bool) -> KernelSource:
    """`kernel` with its `numbers` behind its arguments.

    A pointer begins that many bytes into its buffer: a multiple of what its element needs.

    Args:
        kernel: reads its images without a sampler.
        lines: whether images are parts of a line of texels, or objects of their own.
    """
    arguments, added, statements = arguments_of(kernel), [], ""
    head, source = "", kernel.source
    for at, number in enumerate(numbers(kernel, lines=lines)):
        declared, _, name = arguments[number.argument].rpartition(" ")
        added.append(f"const {number.type} place{at}")
        if number.told is Told.BEGIN:
            kind = declared.replace("restrict", "").strip()
            const = "const " if "const " in kind else ""
            statements += f"  {name} = ({kind})((__global {const}char*){name} + place{at});\n"
        elif number.told is Told.FIRST_TEXEL:
            read = f"read_imagef({name}, "
            head += f"#define {name}_texel(at) {read}texel_at(at, place{at}, place{at + 1}))\n"
            source = source.replace(read, f"{name}_texel(")
            source = re.sub(rf"{_IMAGE}{name}\b", f"{_LINE}{name}", source)
    if head:
        source = _TEXEL + head + source
    return extended(KernelSource(kernel.entry, source), added, statements)
