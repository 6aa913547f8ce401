"""Where the time of a run went, on traces whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.device import simulated_devices
from flashmem_lab.plan.timeline import Event, Lane, Timeline
from flashmem_lab.program.program import LayerCost
from flashmem_lab.trace import Trace, profile_of
from flashmem_lab.trace.spans import length, merge, within

MS = 1_000_000
DEVICE = simulated_devices()["sim:adreno750"]


def event(lane: Lane, kind: str, layer: int, start: float, end: float, queued: float = -1) -> Event:
    handed = int(queued * MS) if queued >= 0 else -1
    span = (int(start * MS), int(end * MS))
    return Event(lane, kind, f"{kind} {layer}", layer, "", *span, 0, queued_ns=handed)


COSTS = (LayerCost("reusable", flops=2_000_000_000, bytes=1_000_000, kind="gemm"),) * 3


def traced(events: list[Event]) -> Trace:
    timeline = Timeline(tuple(events), ())
    return Trace("measured", "m", "d", "s", "fp32", 0, timeline, ("a", "b", "c"), {})


def test_every_moment_has_one_owner() -> None:
    events = [
        event(Lane.COMPUTE, "write-input", 0, 0.0, 1.0),
        event(Lane.COMPUTE, "launch", 0, 2.0, 10.0, queued=1.5),  # 0.5 handing, 0.5 launching
        event(Lane.DISK, "read", 1, 4.0, 13.0),  # hidden behind layer 0 until 10
        event(Lane.TRANSFER, "upload", 1, 13.0, 14.0),
        event(Lane.COMPUTE, "stall", 1, 10.0, 15.0),  # 3 disk, 1 transfer, 1 neither
        event(Lane.COMPUTE, "launch", 1, 15.0, 19.2, queued=9.0),
        event(Lane.COMPUTE, "read-output", 1, 19.2, 19.5, queued=9.0),
    ]
    profile = profile_of(traced(events), [20.0], COSTS, DEVICE)
    (run,) = profile.runs
    assert run.layers_ms == pytest.approx(12.2)
    assert run.launching_ms == pytest.approx(0.5)
    assert run.handing_ms == pytest.approx(0.5)
    assert run.transfer_ms == pytest.approx(1.0 + 0.3 + 1.0)
    assert run.disk_ms == pytest.approx(3.0)
    assert run.stall_ms == pytest.approx(1.0)
    assert run.host_ms == pytest.approx(0.5)  # behind the last command
    assert run.attributed == pytest.approx(0.975)
    first, second = profile.layers  # 9.2 ms with its wait, then 9 ms with its launch
    assert [first.name, second.name] == ["b", "a"]
    assert (first.ms, first.waiting_ms) == (pytest.approx(4.2), pytest.approx(5.0))
    assert first.flops_per_s == pytest.approx(2e9 / 4.2e-3)
    ceiling = profile.ceilings["reusable"]
    assert (first.bound, first.of_ceiling) == ("arithmetic", pytest.approx(2e9 / 4.2e-3 / ceiling))


def test_the_shortest_warm_run_is_shown_in_detail() -> None:
    one = event(Lane.COMPUTE, "launch", 0, 0.0, 3.0)
    events = [replace(one, run=run, end_ns=took * MS) for run, took in enumerate((1, 3, 2))]
    profile = profile_of(traced(events), [1.0, 3.0, 2.0], COSTS, DEVICE)
    assert profile.detailed == 2
    assert [layer.ms for layer in profile.layers] == [pytest.approx(2.0)]


def test_layers_are_shown_of_a_run_that_tells_of_each() -> None:
    """Replayed together, launches have one time; it belongs to layers, but to no single one."""
    alone = event(Lane.COMPUTE, "launch", 0, 0.1, 3.0)
    whole = event(Lane.COMPUTE, "replay", -1, 0.1, 1.9, queued=0.05)
    events = [alone, replace(alone, run=1), *(replace(whole, run=run) for run in (2, 3))]
    profile = profile_of(traced(events), [4.0, 3.0, 2.0, 2.0], COSTS, DEVICE)
    assert profile.detailed == 1
    assert [layer.name for layer in profile.layers] == ["a"]
    for run in profile.runs[2:]:
        assert run.layers_ms == pytest.approx(1.8)
        assert run.launching_ms == pytest.approx(0.05)
        assert run.attributed == pytest.approx(1.85 / 2.0)


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20)).map(lambda p: (p[0], sum(p))))


@given(SPANS, st.integers(0, 70), st.integers(0, 70))
def test_spans_cover_the_moments_they_came_from(
    spans: list[tuple[int, int]], low: int, high: int
) -> None:
    moments = {at for start, end in spans for at in range(start, end)}
    merged = merge(spans)
    assert all(a[1] < b[0] for a, b in pairwise(merged))
    assert length(merged) == len(moments)
    assert within(merged, low, high) == len(moments & set(range(low, high)))
