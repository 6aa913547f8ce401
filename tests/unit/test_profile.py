"""Profiles: the fit finds what made the numbers, files are read strictly, predictions follow."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.device import (
    DeviceSpec,
    HostTimes,
    KindCost,
    Quantity,
    Transport,
    simulated_devices,
)
from flashmem_lab.device.spec import NO_HOST, WITH_FUNCTION
from flashmem_lab.devices import open_device
from flashmem_lab.errors import DeviceError, UsageError
from flashmem_lab.lower import LoweredModel, lower
from flashmem_lab.lower.layer import OperatorClass
from flashmem_lab.plan import bounds, make_plan
from flashmem_lab.plan.clock import run_ns
from flashmem_lab.plan.problem import behind_host, build_problem
from flashmem_lab.plan.simulate import steps_of
from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.plan.told import crowded, told
from flashmem_lab.profiles import as_measured, load_profile, save_profile, stored_profile
from flashmem_lab.profiling import profile_device
from flashmem_lab.profiling.contention import reading_of, usual_launches
from flashmem_lab.profiling.fit import Launched, compute_rates, fit_kind, memory_rate
from flashmem_lab.profiling.host import TimedRun, not_told
from flashmem_lab.profiling.room import room
from flashmem_lab.profiling.samples import network_graph, sample_graph
from flashmem_lab.runtime.launching import Launching, records
from flashmem_lab.units import Budget
from tests.unit.plan_samples import PHONE, devices, layers_model, models

POCL = simulated_devices()["sim:pocl"]
WORK = [(10**6, 10**5), (10**8, 3 * 10**5), (3 * 10**7, 10**7), (10**7, 4 * 10**7), (10**9, 10**6)]


@given(st.floats(0, 1e6), st.floats(0.001, 1), st.floats(0.01, 10))
def test_the_fit_finds_the_cost_that_made_the_times(
    fixed: float, per_flop: float, per_byte: float
) -> None:
    launches = [
        Launched("conv", "reusable", flops, size, fixed + per_flop * flops + per_byte * size)
        for flops, size in WORK
    ]
    found = fit_kind(launches, "drawn")
    for launch in launches:
        told = found.fixed_ns + found.ns_per_flop * launch.flops + found.ns_per_byte * launch.bytes
        assert told == pytest.approx(launch.took_ns, rel=1e-3)


@given(
    st.lists(
        st.tuples(st.integers(0, 10**9), st.integers(1, 10**8), st.integers(1, 10**9)),
        min_size=1,
        max_size=6,
    )
)
def test_no_part_of_a_cost_is_negative(seen: list[tuple[int, int, int]]) -> None:
    cost = fit_kind([Launched("map", "elemental", *one) for one in seen], "drawn")
    assert min(cost.fixed_ns, cost.ns_per_flop, cost.ns_per_byte) >= 0
    assert cost.fixed_ns + cost.ns_per_flop + cost.ns_per_byte > 0


def test_half_is_as_wrong_as_double() -> None:
    """Of a tenth and ten times, the cost lies in the middle, where each is as far off."""
    seen = [Launched("conv", "reusable", 100, 0, took) for took in (10.0, 1000.0)]
    found = fit_kind(seen, "drawn")
    assert found.fixed_ns + found.ns_per_flop * 100 == pytest.approx(100, rel=1e-3)


def launch(start: int, end: int, run: int = 1, layer: int = 0) -> Event:
    return Event(Lane.COMPUTE, "launch", "product", layer, "", start, end, 0, run)


def test_what_a_run_takes_beside_its_launches() -> None:
    """Launches at 300, 500 and 900 of a run of 1000 ns that end at 400, 600 and 950."""
    run = TimedRun((launch(300, 400), launch(500, 600, layer=1), launch(900, 950, layer=2)), 1000)
    assert run.besides_ns == 350
    assert run.apart_ns({1, 2}) == 300
    assert run.apart_ns({2}) == 400


@given(models(), devices, st.floats(0, 0.6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_the_clock_does_not_tell_is_the_hosts(
    model: LoweredModel, device: DeviceSpec, share: float, each: int, crowd: int
) -> None:
    """A run that took longer by so much a weight and a layer gives these back."""
    problem = build_problem(model, device, device.transport)
    plan = make_plan(model, device, budget=Budget(share=share))
    pinned, load_at = steps_of(plan, problem)
    plain = run_ns(problem, pinned, load_at, cold=False)
    assert not_told(problem, plan, plain) == pytest.approx(0, abs=1e-6 * plain)
    took_ns = plain + each * len(plan.streamed)
    assert not_told(problem, plan, took_ns) == pytest.approx(
        each * len(plan.streamed), abs=1e-6 * took_ns
    )
    host = HostTimes(crowded_ns=Quantity(crowd, "drawn"))
    in_run = told(replace(problem, host=host), pinned, load_at, cold=False)
    added = in_run.duration_ns - problem.duration_ns
    assert added == pytest.approx(crowd * crowded(problem, pinned, load_at), abs=1e-3)


def test_layers_wait_for_the_host_that_makes_them_ready() -> None:
    """Ready at 0, 5, 10, 15, 20: the second waits for 4, the long one lets the host ahead."""
    lasts = behind_host(np.array([1.0, 7.0, 30.0, 1.0, 1.0]), np.full(5, 5.0))
    assert lasts.tolist() == [1, 11, 30, 1, 1]
    assert behind_host(np.array([1.0, 1.0]), np.array([9.0, 4.0])).tolist() == [1, 4]


def test_activations_are_crowded_where_the_plan_has_no_room_for_them_all() -> None:
    """100 + 20 kB of activations; the last layer's weight takes what the first one's left."""
    kb = 1000 // 4
    model = layers_model(
        [
            (OperatorClass.REUSABLE, 10, 100 * 1000, (0,)),
            (OperatorClass.REUSABLE, 10, 20 * 1000, ()),
            (OperatorClass.REUSABLE, 10, 4, (1,)),
        ],
        [kb, 90 * kb],
    )
    problem = build_problem(model, PHONE, Transport.MAP)
    streamed = np.array([False, False])
    assert crowded(problem, streamed, problem.first)
    assert not crowded(problem, streamed, np.array([0, 0])), "it is there beside them all"


def test_the_network_is_of_small_layers_that_mostly_load() -> None:
    model = lower(network_graph(), POCL)
    loading = sum(bool(layer.weights) for layer in model.layers)
    assert 0.6 < loading / len(model.layers) < 0.9
    assert max(layer.flops for layer in model.layers) < 1e8
    behind = lower(network_graph(behind_head=True), POCL)
    kinds = [layer.kind for layer in model.layers]
    assert [layer.kind for layer in behind.layers][-len(kinds) :] == kinds
    assert behind.layers[0].flops > 20 * max(layer.flops for layer in model.layers)


def test_a_function_costs_as_its_kind_where_it_was_not_measured() -> None:
    plain, dear = KindCost(10.0, 0, 0, 0, "made up"), KindCost(50.0, 0, 0, 0, "made up")
    bare = replace(PHONE, kinds={"gemm": plain}, launch_ns=Quantity(1.0, "made up"))
    known = replace(bare, kinds={"gemm": plain, "gemm" + WITH_FUNCTION: dear})
    for device, expected in ((bare, 11), (known, 51)):
        assert device.layer_ns("reusable", "gemm" + WITH_FUNCTION, 10, 10) == expected


def test_contention_is_what_launches_beside_reads_lose() -> None:
    """Alone 100 ns; beside a read for 100 of 150 ns it lost half its pace meanwhile."""
    read = Event(Lane.DISK, "read", "w", 0, "w", 200, 300, 4096, 1)
    alone = [launch(0, 100), launch(400, 500), launch(600, 690)]
    usual = usual_launches(alone)
    assert usual == {0: 100}
    slowed = [read, launch(180, 330)]
    seen = reading_of([slowed], usual, "drawn")
    assert seen.contention.value == pytest.approx(1.0), "half its pace: twice as long"
    assert seen.disk.value == pytest.approx(4096 / 100e-9)
    hiccup = [replace(read, end_ns=900), launch(180, 990)]
    assert reading_of([slowed, hiccup, slowed], usual, "drawn") == seen, "the median run counts"
    faster = reading_of([[read, launch(200, 290)]], usual, "drawn")
    assert faster.contention.value == 0
    copied = replace(read, lane=Lane.TRANSFER, kind="upload")
    assert reading_of([[copied, launch(180, 330)]], usual, "drawn") == seen, "where nothing is read"
    assert reading_of([[copied, *slowed]], usual, "drawn") == seen, "copies follow their reads"


@pytest.mark.parametrize("late", [launch(0, 190), launch(290, 480), launch(150, 900)])
def test_all_that_launches_lose_is_the_reads_doing(late: Event) -> None:
    """Also what they lose without a read beside them, and more than all of their pace."""
    read = Event(Lane.DISK, "read", "w", 0, "w", 200, 300, 4096, 1)
    seen = reading_of([[read, late]], {0: 100}, "drawn")
    lost_ns = seen.contention.value / (1 + seen.contention.value) * 4096 / seen.disk.value * 1e9
    assert lost_ns == pytest.approx(late.end_ns - late.start_ns - 100)


def test_samples_hold_every_kind_that_networks_spend_time_on() -> None:
    kinds = {layer.kind for layer in lower(sample_graph(), POCL).layers}
    wanted = {"gemm", "conv", "depthwise", "deconv", "matmul", "softmax", "normalise", "map"}
    assert kinds >= wanted | {"reduce", "pool", "resize"}


def test_a_measured_kind_sets_the_time_of_its_layers() -> None:
    model = layers_model([(OperatorClass.REUSABLE, 10**9, 4096, (0,))], [10])
    slow = replace(PHONE, kinds={"gemm": KindCost(0.0, 1.0, 0.0, 0.0, "made up")})  # 1 ns a flop
    plan = make_plan(model, slow, budget=Budget(share=1.0))
    assert plan.predicted.warm_ms == pytest.approx(1000 + PHONE.launch_ns.value / 1e6)


@pytest.mark.parametrize(
    ("single", "replayed", "chosen"),
    [
        (9e3, 0, False),
        (9e3, 4e3, True),
        (9e3, 5e3, False),
        (9e3, 10e3, False),
        (1.9e3, 1, False),
        (2.1e3, 1, True),
        (0, 0, False),
    ],
)
def test_launches_are_recorded_where_that_was_measured_to_save_enough(
    single: float, replayed: float, chosen: bool
) -> None:
    device = replace(
        POCL,
        launch_ns=Quantity(single, "drawn"),
        host=replace(POCL.host, replayed_ns=Quantity(replayed, "drawn")),
    )
    assert records(Launching.AUTO, device) is chosen
    assert records(Launching.RECORDED, device)
    assert not records(Launching.SINGLE, device)


def test_a_profile_comes_back_and_plans_as_a_simulated_device(tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    cost = KindCost(1.0, 2.0, 3.0, 0.1, "made up")
    save_profile(replace(PHONE, kinds={"conv": cost}), path)
    opened = open_device(str(path))
    assert opened.id == "sim:phone"
    assert opened.kinds == {"conv": cost}
    assert opened.limits == PHONE.limits


def test_what_an_older_profile_does_not_say_of_the_host_is_as_of_any_such_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLASHMEM_LAB_CACHE", str(tmp_path))
    found = replace(PHONE, host=HostTimes(streamed_ns=Quantity(5.0, "made up")))
    disk = Quantity(7e9, "measured")
    for host in (NO_HOST, HostTimes(start_ns=Quantity(9.0, "measured"))):
        save_profile(replace(PHONE, disk=disk, host=host), stored_profile(found))
        measured = as_measured(found)
        assert measured.disk == disk
        assert measured.host == (found.host if host == NO_HOST else host)


@pytest.mark.parametrize("text", ["", "[]", '{"schema": "flashmem-lab/plan/1"}'])
def test_what_is_not_a_profile_is_refused_and_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "device.json"
    path.write_text(text)
    with pytest.raises(DeviceError, match="not a device profile"):
        load_profile(path)
    with pytest.raises(UsageError, match="left alone"):
        save_profile(PHONE, path)
    assert path.read_text() == text


def test_a_damaged_profile_says_where(tmp_path: Path) -> None:
    path = tmp_path / "device.json"
    save_profile(PHONE, path)
    data = json.loads(path.read_text())
    data["disk"]["value"] = "fast"
    path.write_text(json.dumps(data))
    with pytest.raises(DeviceError, match=r"\$\.disk\.value"):
        load_profile(path)


def test_a_simulated_device_cannot_be_measured() -> None:
    with pytest.raises(UsageError, match="nothing to measure"):
        profile_device(PHONE)


def test_ceilings_are_the_best_that_any_sample_reached() -> None:
    launches = [
        Launched("gemm", "reusable", 2000, 9000, 10.0),
        Launched("conv", "reusable", 5000, 100, 20.0),
        Launched("elementwise", "elemental", 10, 400, 10.0),
        Launched("elementwise", "elemental", 10, 900, 30.0),
    ]
    rates = {name: rate.value for name, rate in compute_rates(launches, "drawn").items()}
    assert rates == {"reusable": 250e9, "elemental": 1e9}
    assert memory_rate(launches) == 40e9


def test_samples_take_half_of_a_small_device_and_no_more() -> None:
    model = lower(sample_graph(), POCL)
    least, full, _ = bounds(model, POCL)
    for memory, taken in ((10 * full, full), (full, full // 2), (least, least)):
        device = replace(POCL, limits=replace(POCL.limits, global_memory=memory))
        assert room(model, device).bytes == taken
    small = replace(POCL, limits=replace(POCL.limits, global_memory=full))
    plan = make_plan(model, small, budget=room(model, small))
    assert plan.predicted.peak_bytes <= full // 2
    assert not make_plan(model, POCL, budget=room(model, POCL)).streamed
