"""Kernels that also move weights (`inline`): any kernel's source, rewritten at one place.

The paper's rewriting. A kernel gets CARRIED entries more, each with a chunk in unified memory, the
later weight's object, where the chunk begins in it and how much there is to move; and at the start
of its body one loop an entry, in which each work-item moves its share. What the kernel computes is
left as it is, so templates know nothing of it. There is no branch: an entry that moves nothing has
a loop of no rounds. Nothing waits for the moves within the kernel, since it does not use that
weight; the queue's order makes them visible to the kernels behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from flashmem_lab.errors import PlanError
from flashmem_lab.plan.chunks import CARRIED
from flashmem_lab.plan.plan import Plan
from flashmem_lab.program.program import DeviceObject, KernelSource, ObjectKind, PackedSpan, Upload
from flashmem_lab.program.rewrite import extended

MOVER = KernelSource("move", "__kernel void move(\n    ) {\n}\n")
"""A kernel that computes nothing: rewritten, it moves chunks and no more."""

MOVER_ITEMS = 4096
"""Its work-items: enough for the bandwidth of any GPU here."""

MOVER_GROUP = 64
"""Its work-group."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one step of an entry's loop moves.

    Attributes:
        source, target: types of the chunk and of the object, as kernel arguments.
        move: the statement that moves unit `i` of the chunk to unit `at` of the object.
        bytes: of a unit.
    """

    source: str
    target: str
    move: str
    bytes: int


def _texels(source: str, texel: str, size: int) -> Unit:
    place = "(int2)(at % get_image_width({to}), at / get_image_width({to}))"
    return Unit(
        source=f"__global const {source}*",
        target="__write_only image2d_t",
        move="write_imagef({to}, " + place + ", " + texel + ");",
        bytes=size,
    )


def _elements(name: str, size: int) -> Unit:
    return Unit(f"__global const {name}*", f"__global {name}*", "{to}[at] = {source}[i];", size)


UNITS: Mapping[str, Unit] = {
    "float texels": _texels("float4", "{source}[i]", 16),
    "half texels": _texels("half", "vload_half4(i, {source})", 8),
    "words": _elements("uint", 4),
    "half words": _elements("ushort", 2),
    "bytes": _elements("uchar", 1),
}
"""Textures are written texel by texel; buffers in the largest unit that their rows consist of."""


def unit_of(item: DeviceObject, span: PackedSpan) -> str:
    """The unit, by its name, in which `item` is filled."""
    if item.kind is ObjectKind.IMAGE2D:
        return "float texels" if item.dtype == "float32" else "half texels"
    if span.row_bytes % 4 == 0:
        return "words"
    return "half words" if span.row_bytes % 2 == 0 else "bytes"


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk that a kernel carries, as its arguments describe it.

    Attributes:
        upload: the chunk.
        unit: name of its unit.
        first, count: units of the object where it begins, and of the chunk.
    """

    upload: Upload
    unit: str
    first: int
    count: int


def entries(
    uploads: Sequence[Upload],
    objects: Mapping[str, DeviceObject],
    spans: Mapping[str, PackedSpan],
) -> tuple[Entry, ...]:
    """The entries of a kernel that carries `uploads`, by unit, so that few kernels differ."""
    found = []
    for upload in uploads:
        span = spans[upload.weight]
        unit = unit_of(objects[upload.weight], span)
        size = UNITS[unit].bytes
        first = upload.first_row * span.row_bytes // size
        found.append(Entry(upload, unit, first, upload.bytes // size))
    names = list(UNITS)
    return tuple(sorted(found, key=lambda entry: names.index(entry.unit)))


@dataclass(frozen=True, slots=True)
class Carried:
    """Who moves which chunks, by layer (`inline`).

    Attributes:
        along: what each layer's kernel carries.
        apart: what kernels of their own move right before each layer.
    """

    along: Mapping[int, tuple[Entry, ...]]
    apart: Mapping[int, tuple[Entry, ...]]


def carried_chunks(
    plan: Plan,
    weights: Iterable[str],
    transfer: Iterable[Upload],
    objects: Mapping[str, DeviceObject],
    spans: Mapping[str, PackedSpan],
) -> Carried:
    """The plan's moves, chunk by chunk.

    Args:
        plan: states them.
        weights: of the device.
        transfer: the chunks.
        objects: of the weights.
        spans: of the weights.

    Raises:
        PlanError: the plan moves another number of chunks than there are.
    """
    moves = dict(zip(plan.preloaded, plan.preload_moves, strict=False))
    moves |= {weight.weight: weight.moves for weight in plan.streamed}
    steps = {
        name: [
            (move.layer, chunk < move.apart)
            for move in moves.get(name, ())
            for chunk in range(move.chunks)
        ]
        for name in weights
    }
    along: dict[int, list[Upload]] = {}
    apart: dict[int, list[Upload]] = {}
    chunks = dict.fromkeys(weights, 0)
    for upload in transfer:
        name = upload.weight
        chunks[name] += 1
        if upload.chunk >= len(steps[name]):
            raise PlanError(f"the plan does not say when chunk {upload.chunk} of {name!r} moves")
        layer, alone = steps[name][upload.chunk]
        (apart if alone else along).setdefault(layer, []).append(upload)
    odd = [name for name, count in chunks.items() if count != len(steps[name])]
    if odd:
        raise PlanError(f"the plan moves more chunks of {odd[0]!r} than there are")
    return Carried(
        along={at: entries(some, objects, spans) for at, some in along.items()},
        apart={
            at: tuple(entries([one], objects, spans)[0] for one in some)
            for at, some in apart.items()
        },
    )


def carrying(kernel: KernelSource, carried: Sequence[Entry]) -> KernelSource:
    """`kernel` rewritten to move what has the units of `carried`.

    Its own arguments stay the first ones; CARRIED entries of source, target, first unit and count
    follow. Those beyond `carried` have the unit of the last one.

    Args:
        kernel: any rendered kernel.
        carried: one entry or more, at most CARRIED.
    """
    units = [UNITS[entry.unit] for entry in carried]
    units += [units[-1]] * (CARRIED - len(units))
    arguments = [
        f"{unit.source} carry_from{at}, {unit.target} carry_to{at}, "
        f"const int carry_first{at}, const int carry_count{at}"
        for at, unit in enumerate(units)
    ]
    loops = "".join(_loop(at, unit) for at, unit in enumerate(units))
    return extended(kernel, arguments, _SHARE + loops)


_SHARE = """\
  // Moves what later layers need: work-item carry_item of carry_items takes every carry_items-th.
  const int carry_items = get_global_size(0) * get_global_size(1) * get_global_size(2);
  const int carry_item = get_global_id(0) +
      get_global_size(0) * (get_global_id(1) + get_global_size(1) * get_global_id(2));
"""


def _loop(at: int, unit: Unit) -> str:
    move = unit.move.format(source=f"carry_from{at}", to=f"carry_to{at}")
    return (
        f"  for (int i = carry_item; i < carry_count{at}; i += carry_items) {{\n"
        f"    const int at = carry_first{at} + i;\n"
        f"    {move}\n"
        "  }\n"
    )
