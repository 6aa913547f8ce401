"""Several models under one cap: the joint plan is sound, and keeping what comes again pays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashmem_lab.device import Transport
from flashmem_lab.device.spec import DeviceSpec, Quantity, Reading
from flashmem_lab.errors import BudgetTooSmall
from flashmem_lab.lower.join import join
from flashmem_lab.lower.layer import LoweredModel, OperatorClass
from flashmem_lab.plan import bounds, check_plan, make_plan
from flashmem_lab.plan.queue import plan_queue
from flashmem_lab.units import Budget
from tests.unit.plan_samples import PHONE, layers_model, models

REUSABLE = OperatorClass.REUSABLE

SLOW_START = replace(PHONE, first_run=Reading(Quantity(2e8, "slow"), Quantity(0.5, "slow")))
"""The phone with a first run that reads slower than later ones, as `profile` may find it."""


def chain(layers: int, rows: int) -> LoweredModel:
    """Layers with a weight each, quick beside the disk, so that every byte read costs time."""
    return layers_model([(REUSABLE, 10, 64, (at,)) for at in range(layers)], [rows] * layers)


def test_join_tells_equal_names_apart_and_keeps_what_is_asked() -> None:
    model = chain(3, 100)
    joined = join([model, model], {(1, "w1"): 0})
    uses = joined.model.weight_uses()
    assert uses["0/w1"] == (1, 4)
    assert uses["1/w0"] == (3, 3)
    assert "1/w1" not in joined.model.weights
    assert joined.starts == (0, 3, 6)
    assert joined.weights["1/w2"] == (1, "w2")


def test_join_refuses_an_empty_queue() -> None:
    with pytest.raises(ValueError, match="at least one"):
        join([])


@pytest.mark.parametrize("device", [PHONE, SLOW_START], ids=["even", "slow start"])
def test_what_comes_back_is_kept_and_read_once(device: DeviceSpec) -> None:
    model = chain(4, 1000)
    roomy = plan_queue([model, model, model], device, budget=Budget(share=1.0))
    least = plan_queue([model, model, model], device, budget=Budget(share=0.0))
    weights = sum(weight.device_bytes for weight in model.weights.values())
    assert roomy.kept_bytes == 2 * weights
    assert least.kept_bytes < roomy.kept_bytes
    assert roomy.plan.predicted.cold_ms < least.plan.predicted.cold_ms


def test_the_next_models_head_is_loaded_while_the_last_one_runs() -> None:
    # The first model computes long and frees its only weight early; the second one waits for disk.
    busy = layers_model([(REUSABLE, 10, 64, (0,)), (REUSABLE, 10**10, 64, ())], [100])
    queue = plan_queue([busy, chain(2, 1000)], PHONE, budget=Budget(bytes=6 * 1024**2))
    loads = {one.weight: one.load_at for one in queue.plan.streamed}
    assert loads.get("1/w0", 0) < 2, "layer 2 is the second model's first"


def test_a_cap_below_a_models_least_budget_is_refused() -> None:
    big = chain(2, 4000)
    with pytest.raises(BudgetTooSmall):
        plan_queue([chain(2, 10), big], PHONE, budget=Budget(bytes=bounds(big, PHONE)[0] - 1))


@given(
    st.lists(models(most=5), min_size=1, max_size=3),
    st.lists(st.integers(0, 2), min_size=1, max_size=6),
    st.floats(0, 1),
    st.sampled_from([PHONE, SLOW_START]),
)
def test_joint_plans_are_sound_and_no_slower_than_one_by_one(
    distinct: list[LoweredModel], order: list[int], share: float, device: DeviceSpec
) -> None:
    device = replace(device, transport=Transport.MAP)  # a joint ring may have more slots than one's
    queue = [distinct[at % len(distinct)] for at in order]
    made = plan_queue(queue, device, budget=Budget(share=share))
    check_plan(made.plan, made.joined.model, device)
    assert made.plan.predicted.peak_bytes <= made.plan.budget_bytes
    cap = Budget(bytes=made.plan.budget_bytes)
    alone = [make_plan(model, device, budget=cap) for model in queue]
    one_by_one = np.sum([plan.predicted.cold_ms for plan in alone])
    assert made.plan.predicted.cold_ms <= one_by_one * 1.01


@given(st.lists(models(most=4), min_size=2, max_size=2), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_cap_is_never_slower(pair: list[LoweredModel], one: float, other: float) -> None:
    queue = [*pair, *pair]
    low, high = sorted((one, other))
    small, large = (plan_queue(queue, PHONE, budget=Budget(share=at)) for at in (low, high))
    assert large.plan.predicted.cold_ms <= small.plan.predicted.cold_ms * 1.02
