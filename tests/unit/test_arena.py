"""Places of activations in one buffer: nothing overlaps, and the peak stays the program's."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.device.spec import Transport
from flashmem_lab.lower.layer import Arg
from flashmem_lab.plan.timeline import Pool
from flashmem_lab.program.program import (
    Alloc,
    DeviceObject,
    Free,
    Launch,
    MemoryCommand,
    ObjectKind,
    Program,
    Read,
    Upload,
)
from flashmem_lab.runtime.arena import arena_of, fits, made_with

ALIGNMENT = 64
LIFE = st.tuples(st.integers(1, 300), st.integers(0, 9), st.integers(0, 4))
"""Bytes, first layer and how many more; for a weight, the last number is how early it is made."""


def program_of(
    activations: list[tuple[int, int, int]],
    weights: list[tuple[int, int, int]],
    peak_bytes: int | None = None,
) -> Program:
    """Ten launches; activations from .. from + more, weights made early and used by one launch."""
    lives = {f"a{at}": (size, a, a + more, a) for at, (size, a, more) in enumerate(activations)}
    for at, (size, use, early) in enumerate(weights):
        lives[f"w{at}"] = (size, max(0, use - early), use, use)
    steps = range(1 + max([9, *(last for _, _, last, _ in lives.values())]))
    objects = {
        name: DeviceObject(
            name,
            ObjectKind.BUFFER,
            Pool.TEXTURE if name[0] == "w" else Pool.BUFFER,
            life[0],
            0,
            0,
            "uint8",
        )
        for name, life in lives.items()
    }
    numbers = iter(range(10_000))
    launches = {step: next(numbers) for step in steps}
    memory: list[MemoryCommand] = []
    for step in steps:
        made = [name for name, life in lives.items() if life[1] == step]
        over = [name for name, life in lives.items() if life[2] == step]
        memory += [Alloc(next(numbers), name, step, once=False) for name in made]
        memory += [Free(next(numbers), name, step, (launches[step],)) for name in over]
    used = sorted((n for n in lives if n[0] == "w"), key=lambda name: lives[name][3])
    reads = tuple(Read(next(numbers), name, 0, 0, 1, 1, once=False, after=()) for name in used)
    uploads = {
        r.weight: Upload(next(numbers), r.weight, 0, 0, 1, 1, once=False, after=(r.id,))
        for r in reads
    }
    compute = tuple(
        Launch(
            launches[step],
            step,
            f"layer {step}",
            0,
            tuple(Arg("object", name) for name in used if lives[name][3] == step),
            (1,),
            (),
            tuple(uploads[name].id for name in used if lives[name][3] == step),
        )
        for step in steps
    )
    held = highest = 0
    for command in memory:
        size = objects[command.object].bytes
        held += size if isinstance(command, Alloc) else -size
        highest = max(highest, held)
    return Program(
        model="m",
        fingerprint="f",
        precision="fp32",
        device="d",
        strategy="greedy",
        budget_bytes=highest,
        transport=Transport.MAP,
        staging_bytes=0,
        slot_bytes=0,
        barrier=False,
        objects=objects,
        spans={},
        weights_key="",
        memory=tuple(memory),
        disk=reads,
        transfer=tuple(uploads.values()),
        compute=compute,
        kernels=(),
        layers=tuple(map(str, steps)),
        inputs=(),
        outputs=(),
        predicted_peak_bytes=highest if peak_bytes is None else peak_bytes,
    )


@given(st.lists(LIFE, min_size=1, max_size=12))
def test_what_is_held_at_one_time_lies_apart(activations: list[tuple[int, int, int]]) -> None:
    program = program_of(activations, [], peak_bytes=2**30)
    arena = arena_of(program, ALIGNMENT)
    place = {command.id: at for at, command in enumerate(program.memory)}
    lives = {}
    for name, item in program.objects.items():
        begin, end = (place[c.id] for c in program.memory if c.object == name)
        lives[name] = (begin, end, arena.offsets[name], item.bytes)
        assert arena.offsets[name] % ALIGNMENT == 0
        assert arena.offsets[name] + item.bytes <= arena.bytes
    for a, b in combinations(lives.values(), 2):
        if a[0] < b[1] and b[0] < a[1]:
            assert a[2] + a[3] <= b[2] or b[2] + b[3] <= a[2]


@given(st.lists(LIFE, min_size=1, max_size=8), st.lists(LIFE, max_size=8))
def test_every_layer_has_room_for_its_weights_beside_the_arena(
    activations: list[tuple[int, int, int]], weights: list[tuple[int, int, int]]
) -> None:
    """Weights made as late as can be, in their order, with what they must come behind."""
    program = program_of(activations, weights)
    arena = arena_of(program, ALIGNMENT)
    if not fits(arena, program):
        return
    made_in_order = [
        c.object for c in program.memory if isinstance(c, Alloc) and c.object.startswith("w")
    ]
    counts = made_with(program)
    made: list[str] = []
    held = 0
    for launch in program.compute:
        for weight in (str(arg.value) for arg in launch.args):
            while len(made) < counts[weight]:
                made.append(made_in_order[len(made)])
                held += program.objects[made[-1]].bytes
            assert weight in made
        assert held + arena.bytes <= program.predicted_peak_bytes
        held -= sum(program.objects[str(arg.value)].bytes for arg in launch.args)


def fitting(activations: list[tuple[int, int, int]], weights: list[tuple[int, int, int]]) -> bool:
    program = program_of(activations, weights)
    return fits(arena_of(program, ALIGNMENT), program)


def test_an_arena_that_takes_the_room_of_a_weight_is_refused() -> None:
    """Two activations that never meet share a place; at the peak of the weights there is none."""
    activations = [(256, 0, 1), (256, 2, 1)]
    assert fitting(activations, [(64, 1, 0)])
    assert not fitting([(256, 0, 1)], [(300, 5, 0)])
