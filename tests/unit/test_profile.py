"""Profiles: the fit finds what made the numbers, files are read strictly, predictions follow."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.device import KindCost, simulated_devices
from flashmem_lab.devices import open_device
from flashmem_lab.errors import DeviceError, UsageError
from flashmem_lab.lower import lower
from flashmem_lab.lower.layer import OperatorClass
from flashmem_lab.plan import bounds, make_plan
from flashmem_lab.plan.timeline import Event, Lane
from flashmem_lab.profiles import load_profile, save_profile
from flashmem_lab.profiling import profile_device
from flashmem_lab.profiling.contention import reading_of, usual_launches
from flashmem_lab.profiling.fit import Launched, compute_rates, fit_kind, memory_rate
from flashmem_lab.profiling.room import room
from flashmem_lab.profiling.samples import sample_graph
from flashmem_lab.units import Budget
from tests.unit.plan_samples import PHONE, layers_model

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


def launch(start: int, end: int, run: int = 1) -> Event:
    return Event(Lane.COMPUTE, "launch", "product", 0, "", start, end, 0, run)


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


def test_a_profile_comes_back_and_plans_as_a_simulated_device(tmp_path: Path) -> None:
    path = tmp_path / "phone.json"
    cost = KindCost(1.0, 2.0, 3.0, 0.1, "made up")
    save_profile(replace(PHONE, kinds={"conv": cost}), path)
    opened = open_device(str(path))
    assert opened.id == "sim:phone"
    assert opened.kinds == {"conv": cost}
    assert opened.limits == PHONE.limits


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
