"""The checker of programs sees damage of every kind, and reads thousands of commands quickly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flashmem_lab.device.spec import Transport
from flashmem_lab.errors import PlanError
from flashmem_lab.lower.layer import (
    Arg,
    HostCall,
    LoweredModel,
    View,
)
from flashmem_lab.program import build_program, check_program
from flashmem_lab.program.program import (
    Alloc,
    Free,
    Program,
)
from tests.unit.program_samples import (
    FLOATS,
    layer,
    model_of,
    packed_of,
    plan_of,
    renderer,
    residency_peak,
    three_layers,
    view,
    weight,
)


@pytest.fixture
def model() -> LoweredModel:
    return three_layers()


@pytest.fixture
def program(model: LoweredModel) -> Program:
    return build_program(plan_of(model, {"w1": 0}), model, packed_of(model), renderer=renderer)


def without(lane: str, at: int) -> Callable[[Program], Program]:
    def damage(program: Program) -> Program:
        commands = list(getattr(program, lane))
        del commands[at]
        return replace(program, **{lane: tuple(commands)})

    return damage


def changed(lane: str, at: int, **fields: Any) -> Callable[[Program], Program]:
    def damage(program: Program) -> Program:
        commands = list(getattr(program, lane))
        commands[at] = replace(commands[at], **fields)
        return replace(program, **{lane: tuple(commands)})

    return damage


def swapped(lane: str, first: int, second: int) -> Callable[[Program], Program]:
    def damage(program: Program) -> Program:
        commands = list(getattr(program, lane))
        commands[first], commands[second] = commands[second], commands[first]
        return replace(program, **{lane: tuple(commands)})

    return damage


def with_object(name: str, /, **fields: Any) -> Callable[[Program], Program]:
    return lambda p: replace(p, objects={**p.objects, name: replace(p.objects[name], **fields)})


def with_span(name: str, /, **fields: Any) -> Callable[[Program], Program]:
    return lambda p: replace(p, spans={**p.spans, name: replace(p.spans[name], **fields)})


@pytest.mark.parametrize(
    "damage",
    [
        *(without("memory", at) for at in range(11)),
        *(without("disk", at) for at in range(4)),
        *(without("transfer", at) for at in range(4)),
        without("compute", 0),
        without("compute", 4),
        *(changed("compute", at, after=()) for at in range(3)),
        changed("compute", 1, after=(99_999,)),
        changed("compute", 1, kernel=7),
        changed("compute", 1, kernel=-1),
        changed("compute", 1, layer=-1),
        changed("compute", 1, layer=3),
        changed("compute", 3, layer=0),
        changed("compute", 1, global_size=()),
        changed("compute", 1, global_size=(7,)),
        changed("compute", 1, global_size=(0,)),
        changed("compute", 1, local_size=(4, 1)),
        changed("compute", 1, args=(Arg("object", "b9"),)),
        changed("compute", 1, args=(Arg("object", "b3"),)),
        changed("compute", 1, args=(Arg("int", "b1"),)),
        changed("compute", 1, args=(Arg("pointer", 1),)),
        changed("compute", 0, view=view("b0", FLOATS + 1)),
        changed("compute", 0, name="z"),
        changed("compute", 4, view=view("b2")),
        swapped("compute", 0, 1),
        swapped("compute", 1, 2),
        swapped("memory", 3, 4),
        swapped("memory", 4, 5),
        swapped("memory", 0, 2),
        swapped("disk", 1, 2),
        swapped("transfer", 1, 2),
        changed("memory", 0, once=False),
        changed("memory", 1, once=True),
        changed("memory", 4, after=()),
        changed("memory", 6, after=()),
        changed("memory", 0, object="w9"),
        changed("memory", 0, id=1),
        changed("disk", 1, after=()),
        changed("disk", 1, once=True),
        changed("disk", 1, first_row=4),
        changed("disk", 1, rows=4),
        changed("disk", 1, rows=9, bytes=9 * 4096 * 16),
        changed("disk", 1, weight="b1"),
        changed("disk", 1, weight="w9"),
        changed("transfer", 1, after=()),
        changed("transfer", 1, rows=4),
        with_object("w1", bytes=1),
        with_object("w1", width=0),
        with_object("w1", dtype="int64"),
        with_object("b1", bytes=0),
        with_object("b1", bytes=FLOATS * 4 * 2),
        with_object("b3", bytes=FLOATS * 2),
        with_object("b1", name="b2"),
        with_span("w1", offset=-4096),
        with_span("w1", bytes=4096),
        with_span("w1", row_bytes=0),
        with_span("w1", block_rows=0),
        with_span("w1", checksums=()),
        with_span("w1", checksums=(-1,) * 5),
        lambda p: replace(p, predicted_peak_bytes=p.predicted_peak_bytes - 1),
        lambda p: replace(p, budget_bytes=p.budget_bytes - 1),
        lambda p: replace(p, staging_bytes=p.slot_bytes - 1),
        lambda p: replace(p, staging_bytes=-1),
        lambda p: replace(p, slot_bytes=4096),
        lambda p: replace(p, transport=Transport.MAP),
        lambda p: replace(p, transport=Transport.INLINE),
        lambda p: replace(p, layers=p.layers[:2]),
        lambda p: replace(p, inputs=()),
        lambda p: replace(p, outputs=()),
        lambda p: replace(p, outputs=p.outputs * 2),
        lambda p: replace(p, spans={}),
        lambda p: replace(p, objects={}),
    ],
)
def test_the_checker_sees_damage(program: Program, damage: Callable[[Program], Program]) -> None:
    check_program(program)
    with pytest.raises(PlanError, match="the program is not sound"):
        check_program(damage(program))


def test_lanes_that_wait_for_each_other_are_seen(model: LoweredModel) -> None:
    """The read of a weight made at step 1 is put before the one that layer 0 needs."""
    plan = plan_of(model, {"w1": 1, "w2": 0}, slots=1)
    program = build_program(plan, model, packed_of(model), renderer=renderer)
    turned = replace(
        program,
        disk=(*program.disk[1:], program.disk[0]),
        transfer=(*program.transfer[1:], program.transfer[0]),
    )
    # Object w1 of step 1 waits for no free here, so only an explicit wait closes the circle.
    memory = list(turned.memory)
    first_free = next(at for at, c in enumerate(memory) if isinstance(c, Free))
    made = next(at for at, c in enumerate(memory) if c.object == "w1" and isinstance(c, Alloc))
    assert made > first_free
    with pytest.raises(PlanError, match="wait for each other"):
        check_program(turned)


def test_a_view_of_negative_strides_is_held_to_its_bounds() -> None:
    backwards = View("b0", "float32", FLOATS - 1, (FLOATS,), (-1,))
    call = HostCall(b"onnx", (("a", backwards),), (("b", view("b1")),))
    model = model_of([layer(0, ["b0"], ["b1"], [], work=call)], [])
    build_program(plan_of(model, {}), model, packed_of(model), renderer=renderer)
    beyond = replace(call, inputs=(("a", replace(backwards, offset=FLOATS - 2)),))
    model = model_of([layer(0, ["b0"], ["b1"], [], work=beyond)], [])
    with pytest.raises(PlanError, match="reaches beyond 'b0'"):
        build_program(plan_of(model, {}), model, packed_of(model), renderer=renderer)


def test_thousands_of_commands_are_checked_quickly() -> None:
    count = 3000
    layers = [layer(at, [f"b{at}"], [f"b{at + 1}"], [f"w{at}"]) for at in range(count)]
    model = model_of(layers, [weight(f"w{at}", 1) for at in range(count)])
    rng = np.random.default_rng(0)
    load_at = {f"w{at}": int(rng.integers(0, at + 1)) for at in range(count)}
    program = build_program(plan_of(model, load_at), model, packed_of(model), renderer=renderer)
    assert program.predicted_peak_bytes == residency_peak(plan_of(model, load_at), model)
