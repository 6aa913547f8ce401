"""The independent check: each rule, violated once, is named; damaged JSON is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flashmem_lab.device import Transport
from flashmem_lab.errors import PlanError
from flashmem_lab.plan import (
    Constraints,
    Move,
    Objective,
    OverCapacity,
    Plan,
    Window,
    check_plan,
    make_plan,
    plan_from_json,
    plan_to_json,
)
from flashmem_lab.units import Budget
from tests.unit.plan_samples import PHONE, SAMPLE

# --- corrupted plans -----------------------------------------------------------------------


DEMANDS = Constraints(preload=("w4",), stream=("w1",), windows=(Window("w3", 1, 2),))


def _plan() -> Plan:
    return make_plan(
        SAMPLE, PHONE, budget=Budget(share=0.3), optimize=Objective.MEMORY, constraints=DEMANDS
    )


def _streamed(plan: Plan, at: int, **changes: object) -> Plan:
    weights = list(plan.streamed)
    weights[at] = replace(weights[at], **changes)
    return replace(plan, streamed=tuple(weights))


def _moved(plan: Plan, *moves: Move) -> Plan:
    return _streamed(plan, 1, moves=moves)


CORRUPTIONS = {
    "another model": lambda p: replace(p, model="other"),
    "another model or other shapes": lambda p: replace(p, fingerprint="0" * 16),
    "fp16": lambda p: replace(p, precision="fp16"),
    "device": lambda p: replace(p, device="ocl:0"),
    "never loads": lambda p: replace(p, streamed=p.streamed[1:]),
    "twice": lambda p: replace(p, preloaded=(*p.preloaded, p.streamed[0].weight)),
    "no layer uses": lambda p: replace(p, preloaded=(*p.preloaded, "ghost")),
    "must be preloaded": lambda p: replace(
        make_plan(SAMPLE, PHONE, budget=Budget(share=0.0)), constraints=DEMANDS
    ),
    "must be streamed": lambda p: replace(
        p, constraints=replace(DEMANDS, stream=("w4",), preload=())
    ),
    "must begin at layers 0 to 0": lambda p: replace(
        p, constraints=Constraints(windows=(Window("w3", 0, 0),))
    ),
    "no tier": lambda p: replace(p, tier="magic"),
    "exceed the load capacity": lambda p: replace(p, over_capacity=()),
    "states a wait of 0": lambda p: replace(
        p, over_capacity=tuple(replace(over, ms=0.0) for over in p.over_capacity)
    ),
    "does not exist": lambda p: replace(
        p, over_capacity=(*p.over_capacity, OverCapacity(99, 1, 1.0))
    ),
    "not in order of use": lambda p: replace(p, streamed=p.streamed[::-1]),
    "the model says": lambda p: _streamed(p, 0, last_use=5),
    "outside 0 to its use": lambda p: _streamed(p, 0, load_at=p.streamed[0].first_use + 1),
    "chunks of 'w1' move": lambda p: (
        _moved(p, *p.streamed[1].moves, Move(2, 1))
        if p.streamed[1].moves[-1].layer < 2
        else _moved(p, Move(2, 9))
    ),
    "out of order": lambda p: _moved(p, Move(3, 1)),
    "moves 0 chunks": lambda p: _moved(p, Move(2, 0)),
    "staging ring": lambda p: replace(p, staging_bytes=16),
    "though map needs none": lambda p: replace(p, transport=Transport.MAP),
    "does not state the moves": lambda p: replace(p, transport=Transport.INLINE),
    "states moves of W": lambda p: replace(p, preload_moves=((Move(0, 1),),)),
    "chunks of 0 bytes": lambda p: replace(
        p, streamed=(), preloaded=tuple(SAMPLE.weights), chunk_bytes=0, constraints=Constraints()
    ),
    "at layer": lambda p: replace(p, budget_bytes=p.predicted.peak_bytes - 1),
    "states a peak": lambda p: replace(
        p, predicted=replace(p.predicted, peak_bytes=p.predicted.peak_bytes - 1)
    ),
    "for full preload": lambda p: replace(p, preload_peak_bytes=1),
    "least budget": lambda p: replace(p, min_budget_bytes=p.preload_peak_bytes + 1),
}


@pytest.mark.parametrize("message", CORRUPTIONS)
def test_a_broken_plan_is_refused(message: str) -> None:
    plan = _plan()
    check_plan(plan, SAMPLE, PHONE)
    with pytest.raises(PlanError, match=message):
        check_plan(CORRUPTIONS[message](plan), SAMPLE, PHONE)


def test_json_that_is_no_plan_is_refused() -> None:
    data = plan_to_json(_plan())
    with pytest.raises(PlanError, match="schema"):
        plan_from_json({**data, "schema": "flashmem-lab/trace/1"})
    broken = json.loads(json.dumps(data))
    broken["streamed"][0]["load_at"] = "3"
    with pytest.raises(PlanError, match=r"\$\.streamed\[0\]\.load_at"):
        plan_from_json(broken)
    with pytest.raises(PlanError, match="no field 'budget_bytes'"):
        plan_from_json({key: value for key, value in data.items() if key != "budget_bytes"})
