"""Statistics, pictures, exports and report of traces made by hand and by hypothesis."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.errors import FlashMemError, UsageError
from flashmem_lab.plan.timeline import Event, Lane, MemorySample, Pool, Timeline
from flashmem_lab.trace import (
    GraphSummary,
    LayerLine,
    Picture,
    ReportSection,
    RunRow,
    Tile,
    Trace,
    load_trace,
    memory_figure,
    save_trace,
    schedule_figure,
    trace_from_json,
    trace_to_json,
    write_chrome,
    write_csv,
    write_html,
    write_perfetto,
)
from flashmem_lab.trace.figures import memory_series
from flashmem_lab.trace.runs import split_runs
from flashmem_lab.trace.statistics import statistics

MS = 1_000_000


def make_trace(origin: str = "measured", pace: int = 1) -> Trace:
    """Three layers in two runs; w0 and w2 are streamed, w0 stalls layer 0, w2 overlaps layer 1.

    Held while layers 0, 1, 2 run: 30, 70, 60 bytes beside a ring of 10.
    """
    events: list[Event] = []
    samples: list[MemorySample] = []

    def at(ms: float) -> int:
        return round(ms * MS * pace)

    def event(
        lane: Lane, kind: str, layer: int, weight: str, start: float, end: float, size: int = 0
    ) -> None:
        name = weight if lane is not Lane.COMPUTE else f"layer {layer} <b>"
        events.append(Event(lane, kind, name, layer, weight, at(start), at(end), size))

    def held(ms: float, pool: Pool, size: int) -> None:
        samples.append(MemorySample(at(ms), pool, size))

    held(0, Pool.TEXTURE, 20)  # w0
    held(0, Pool.BUFFER, 10)
    event(Lane.DISK, "read", 0, "w0", 0, 0.5, 20)
    event(Lane.TRANSFER, "upload", 0, "w0", 0.5, 1, 20)
    event(Lane.COMPUTE, "stall", 0, "w0", 0, 1)
    event(Lane.COMPUTE, "launch", 0, "", 1, 3)
    held(3, Pool.TEXTURE, 0)
    held(3, Pool.TEXTURE, 40)  # w2, while layer 1 runs
    held(3, Pool.BUFFER, 30)
    event(Lane.DISK, "read", 2, "w2", 3, 4, 40)
    event(Lane.TRANSFER, "upload", 2, "w2", 4, 5, 40)
    event(Lane.COMPUTE, "host", 1, "", 3, 6)
    held(6, Pool.BUFFER, 20)
    event(Lane.COMPUTE, "launch", 2, "", 6, 8)
    held(8, Pool.TEXTURE, 0)
    held(8, Pool.BUFFER, 0)
    if origin == "measured":
        held(1, Pool.HOST, 500)
        held(5, Pool.HOST, 700)
    events += [replace(e, run=1) for e in events]
    samples += [replace(s, run=1) for s in samples]
    samples.insert(0, MemorySample(0, Pool.STAGING, 10))  # made once
    samples.sort(key=lambda sample: (sample.run, sample.time_ns))
    return Trace(
        origin=origin,
        model="model </script>",
        device="ocl:0",
        strategy="greedy",
        precision="fp32",
        budget_bytes=90,
        timeline=Timeline(tuple(events), tuple(samples)),
        layers=("layer 0 <b>", "layer 1 <b>", "layer 2 <b>"),
        notes={"driver": "1"},
    )


# --- runs and statistics -------------------------------------------------------------------


def test_runs_have_a_clock_of_their_own() -> None:
    cold, warm = split_runs(make_trace().timeline)
    assert (cold.begin_ns, warm.begin_ns) == (0, 8 * MS)
    assert cold.length_ns == warm.length_ns == 8 * MS
    assert [e.start_ns for e in cold.events] == [e.start_ns for e in warm.events]
    assert warm.held[Pool.STAGING] == 10
    assert cold.held == {}


def test_a_run_that_begins_slowly_is_as_long_as_it_took() -> None:
    """The first command of a run may be later than the whole of the run before it."""
    launch = Event(Lane.COMPUTE, "launch", "layer 0 <b>", 0, "", 0, 2 * MS, 0)
    late = replace(launch, start_ns=5 * MS, end_ns=7 * MS, run=1)
    quick, slow = split_runs(Timeline((launch, late), ()))
    assert (slow.begin_ns, slow.length_ns) == (quick.length_ns, 7 * MS)
    assert slow.events == (late,)


def test_many_runs_are_told_apart_in_one_pass() -> None:
    """10,000 runs of a small model: each event is looked at a few times, not once for each run."""
    looked = 0

    class Counting(int):
        def __hash__(self) -> int:
            nonlocal looked
            looked += 1
            return int.__hash__(self)

        def __eq__(self, other: object) -> bool:
            nonlocal looked
            looked += 1
            return int.__eq__(self, other)

    launch = Event(Lane.COMPUTE, "launch", "layer 0 <b>", 0, "", 0, MS, 0)
    count = 300
    timeline = Timeline(tuple(replace(launch, run=Counting(run)) for run in range(count)), ())
    assert len(split_runs(timeline)) == count
    assert looked < 20 * count


def test_statistics_of_a_known_trace() -> None:
    found = statistics(make_trace())
    assert found.peak_bytes == {"staging": 10, "buffer": 30, "texture": 40, "total": 80}
    for run in found.runs:
        assert run.duration_ns == 8 * MS
        # 40 bytes for 3 ms, 80 for 3, 70 for 2.
        assert run.average_bytes == round((40 * 3 + 80 * 3 + 70 * 2) / 8)
        assert run.stall_ns == 1 * MS
        assert run.busy_ns == {"disk": 1.5 * MS, "transfer": 1.5 * MS, "compute": 7 * MS}
        assert run.overlap_ns == 2 * MS  # w2, during layer 1; w0 came before layer 0 began
        assert run.moved_bytes == {"disk": 60, "transfer": 60, "compute": 0}
        assert run.host_peak_bytes == 700
    assert found.average_bytes == found.runs[0].average_bytes
    assert found.stall_ns == 2 * MS


def test_a_trace_without_anything_has_zeros() -> None:
    empty = replace(make_trace(), timeline=Timeline((), ()))
    assert statistics(empty).peak_bytes["total"] == 0
    assert statistics(empty).runs == ()
    assert len(memory_figure(empty, None, 5).data) == 14
    assert schedule_figure(empty).data


@given(
    spans=st.lists(
        st.tuples(st.sampled_from(Lane), st.integers(0, 50), st.integers(0, 20)), max_size=25
    )
)
def test_busy_and_overlap_count_moments_once(spans: list[tuple[Lane, int, int]]) -> None:
    events = tuple(Event(lane, "k", "n", 0, "", a, a + length, 0) for lane, a, length in spans)
    runs = statistics(replace(make_trace(), timeline=Timeline(events, ()))).runs
    active = {
        lane: {t for one, a, length in spans if one is lane for t in range(a, a + length)}
        for lane in Lane
    }
    expected = len((active[Lane.DISK] | active[Lane.TRANSFER]) & active[Lane.COMPUTE])
    assert sum(run.overlap_ns for run in runs) == expected
    for run in runs:
        assert run.busy_ns == {lane.value: len(moments) for lane, moments in active.items()}


# --- figures -------------------------------------------------------------------------------


def test_memory_over_time_stacks_pools_up_to_the_peak() -> None:
    series = memory_series(make_trace("simulated"), make_trace("measured", pace=3), 90)
    texture, total, predicted, budget = series[2], series[3], series[4], series[5]
    assert total["name"] == "Total measured"
    assert max(texture["y"]) * 1e6 == pytest.approx(80)
    assert np.array_equal(texture["y"], total["y"])
    assert max(predicted["y"]) * 1e6 == pytest.approx(80)
    assert predicted["x"][-1] == pytest.approx(8)
    assert total["x"][-1] == pytest.approx(24)
    assert list(budget["y"]) == [90e-6, 90e-6]
    assert list(series[6]["y"]) == [500e-6, 700e-6]


def test_memory_over_layers_coincides_whatever_the_pace() -> None:
    series = memory_series(make_trace("simulated"), make_trace("measured", pace=3), 90)[7:]
    total, predicted = series[3], series[4]
    assert [round(held * 1e6) for held in total["y"]] == [40, 80, 70, 70]
    assert np.array_equal(total["y"], predicted["y"])
    assert np.array_equal(total["x"], predicted["x"])


def test_memory_over_layers_follows_the_order_where_clocks_are_off() -> None:
    measured = make_trace("measured")
    late = tuple(  # what is made for layer 1 is booked when that layer has just ended
        replace(s, time_ns=s.time_ns + 3 * MS + 1) if s.time_ns == 3 * MS else s
        for s in measured.timeline.samples
        if s.run == 0
    )
    late = tuple(replace(s, time_ns=s.time_ns + 2) if s.time_ns == 6 * MS else s for s in late)
    timeline = Timeline(measured.timeline.events, tuple(sorted(late, key=lambda s: s.time_ns)))
    series = memory_series(make_trace("simulated"), replace(measured, timeline=timeline), 90)[7:]
    assert np.array_equal(series[3]["y"], series[4]["y"])


def test_a_measurement_that_held_something_else_is_drawn_as_it_was() -> None:
    measured = make_trace("measured")
    more = tuple(
        replace(s, bytes=s.bytes + 5) if s.pool is Pool.TEXTURE and s.bytes else s
        for s in measured.timeline.samples
    )
    other = replace(measured, timeline=Timeline(measured.timeline.events, more))
    series = memory_series(make_trace("simulated"), other, 90)[7:]
    assert [round(held * 1e6) for held in series[3]["y"]] == [45, 85, 75, 75]
    assert [round(held * 1e6) for held in series[4]["y"]] == [40, 80, 70, 70]


def test_a_prediction_alone_is_stacked() -> None:
    series = memory_series(make_trace("simulated"), None, 90)
    assert series[3]["name"] == "Total predicted"
    assert len(series[4]["x"]) == 0
    assert not series[4]["showlegend"]


def test_schedule_draws_each_event_once_and_escapes_names() -> None:
    figure = schedule_figure(make_trace())
    bars = [bar for bar in figure.data if bar.hovertext is not None]
    assert {bar.name: len(bar.base) for bar in bars} == {
        "disk read": 2,
        "texture upload": 2,
        "kernel": 2,
        "on the host": 1,
        "stall: waits for weights": 1,
    }
    kernel = next(bar for bar in bars if bar.name == "kernel")
    assert list(kernel.base) == [1, 6]
    assert list(kernel.x) == [2, 2]
    assert "&lt;b&gt;" in kernel.hovertext[0]


# --- exports -------------------------------------------------------------------------------


def test_saved_traces_load_as_they_were(tmp_path: Path) -> None:
    trace = make_trace()
    save_trace(trace, tmp_path / "deep" / "t.json")
    assert load_trace(tmp_path / "deep" / "t.json") == trace
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["t.json"]


@given(
    st.lists(
        st.builds(
            Event,
            lane=st.sampled_from(Lane),
            kind=st.text(),
            name=st.text(),
            layer=st.integers(),
            weight=st.text(),
            start_ns=st.integers(),
            end_ns=st.integers(),
            bytes=st.integers(),
            run=st.integers(),
        )
    )
)
def test_json_is_the_identity(events: list[Event]) -> None:
    trace = replace(make_trace(), timeline=Timeline(tuple(events), ()))
    assert trace_from_json(json.loads(json.dumps(trace_to_json(trace)))) == trace


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("schema"),
        lambda data: data.update(schema="flashmem-lab/trace/99"),
        lambda data: data.update(budget_bytes="many"),
        lambda data: data.update(more=1),
        lambda data: data["timeline"]["events"][0].update(lane="gpu"),
    ],
)
def test_a_damaged_trace_is_refused(damage, tmp_path: Path) -> None:
    data = trace_to_json(make_trace())
    damage(data)
    path = tmp_path / "t.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError):
        load_trace(path)


def test_files_that_are_no_traces_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    for text in ("", "[", "3", "[" * 100_000):
        path.write_text(text)
        with pytest.raises(UsageError):
            load_trace(path)
    with pytest.raises(FlashMemError):
        load_trace(tmp_path / "none.json")


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(FlashMemError):
        save_trace(make_trace(), tmp_path / "taken")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_csv_has_a_row_for_everything(tmp_path: Path) -> None:
    trace = make_trace()
    write_csv(trace, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["record"] == "event" for row in rows) == len(trace.timeline.events)
    assert sum(row["record"] == "memory" for row in rows) == len(trace.timeline.samples)
    last = [row for row in rows if row["record"] == "event"][-1]
    assert int(last["end_ns"]) == 16 * MS  # one clock for both runs


def test_chrome_has_threads_slices_and_counters(tmp_path: Path) -> None:
    write_chrome(make_trace(), tmp_path / "t.json")
    document = json.loads((tmp_path / "t.json").read_text())
    records = document["traceEvents"]
    names = {r["args"]["name"] for r in records if r["name"] == "thread_name"}
    assert names == {"disk", "transfer", "compute"}
    slices = [r for r in records if r["ph"] == "X"]
    assert len(slices) == 16
    assert slices[0]["dur"] == 500  # us
    totals = [sum(r["args"].values()) for r in records if r["name"].startswith("device memory")]
    assert max(totals) == 80


def test_perfetto_reads_back_with_balanced_slices(tmp_path: Path) -> None:
    from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as proto

    write_perfetto(make_trace(), tmp_path / "t.pftrace")
    packets = proto.Trace.FromString((tmp_path / "t.pftrace").read_bytes()).packet
    tracks = {
        p.track_descriptor.uuid: p.track_descriptor.name
        for p in packets
        if p.HasField("track_descriptor")
    }
    assert {"disk", "transfer", "compute", "device memory: total"} <= set(tracks.values())
    depth: dict[int, int] = {}
    peak = 0
    for packet in packets:
        event = packet.track_event
        if event.type == proto.TrackEvent.TYPE_COUNTER:
            if tracks[event.track_uuid] == "device memory: total":
                peak = max(peak, event.counter_value)
        elif packet.HasField("track_event"):
            begins = event.type == proto.TrackEvent.TYPE_SLICE_BEGIN
            depth[event.track_uuid] = depth.get(event.track_uuid, 0) + (1 if begins else -1)
            assert depth[event.track_uuid] in (0, 1), "slices of a track follow one another"
    assert set(depth.values()) == {0}
    assert peak == 80


# --- report --------------------------------------------------------------------------------


def make_section() -> ReportSection:
    line = LayerLine("conv <i>", "conv", "reusable", 9, 100)
    summary = GraphSummary(
        name="net",
        layers=3,
        classes={"reusable": 2, "elemental": 1},
        kinds={"conv": 3},
        kernels=2,
        host_layers=("layer 1",),
        eliminated={"Reshape": 4},
        weights=2,
        weight_bytes=60,
        largest_weight="w2",
        largest_weight_bytes=40,
        activation_bytes=50,
        flops=16_300_000_000,
        top=(line,),
    )
    figures = {
        "budget_bytes": 90,
        "peak_bytes": {"total": 80},
        "average_bytes": 62,
        "host_rss_peak_bytes": 700,
        "host_rss_baseline_bytes": 200,
        "cold_ms": 12.0,
        "first_run_ms": 8.0,
        "warm_ms": [7.0, 9.0],
        "stall_ms": 1.0,
        "predicted": {"peak_bytes": 80, "cold_ms": 7.5},
        "check": {"ok": True, "rel_l2": 3e-7},
    }
    return ReportSection(
        title="Net <script>alert(1)</script>",
        device="ocl:0 & more",
        precision="fp32",
        strategy="greedy",
        runs=[RunRow.of("streamed", figures), RunRow("full preload")],
        budget_bytes=90,
        min_budget_bytes=40,
        preload_peak_bytes=140,
        summary=summary,
        predicted=make_trace("simulated"),
        measured=make_trace(),
    )


def test_a_run_row_takes_the_figures_of_run_json() -> None:
    row = make_section().runs[0]
    assert (row.warm_ms, row.host_rss_bytes, row.check) == (8.0, 500, "ok, 3e-07")


def test_report_is_one_escaped_file_with_every_model(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_html(
        path,
        [make_section(), replace(make_section(), title="Second", measured=None, summary=None)],
        title="Words <read>",
        tiles=[Tile("Words", "A & B")],
        pictures=[Picture(b"\x89PNG", "a <picture>")],
        facts={"onnx": "1.23"},
    )
    text = path.read_text(encoding="utf-8")
    assert text.count("plotly.js v") == 1
    page = text[: text.index("<script>")] + text[text.rindex("<script>") :]
    assert "Words &lt;read&gt;" in page
    assert "A &amp; B" in page
    assert "Net &lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "ok, 3e-07" in page
    assert "16.3 GFLOP" in page
    assert page.count('type="application/json"') == 4
    assert "https://" not in page
    for chunk in page.split('type="application/json"')[1:]:
        figure = json.loads(chunk[chunk.index(">") + 1 : chunk.index("</script>")])
        assert figure["data"]


def test_report_of_a_plan_alone(tmp_path: Path) -> None:
    section = replace(make_section(), runs=[], measured=None, predicted=None, summary=None)
    write_html(tmp_path / "r.html", [section], title="Plan")
    assert 'class="chart"' not in (tmp_path / "r.html").read_text(encoding="utf-8")
