"""Layers, a device and a budget to a Plan: which weight moves when, and what that will cost."""

from flashmem_lab.plan.check import check_plan
from flashmem_lab.plan.codec import plan_from_json, plan_to_json
from flashmem_lab.plan.lanes import Span, Task, run_lanes
from flashmem_lab.plan.plan import (
    Move,
    Objective,
    Plan,
    Prediction,
    Status,
    Strategy,
    StreamedWeight,
)
from flashmem_lab.plan.planner import bounds, make_plan
from flashmem_lab.plan.simulate import simulate

__all__ = [
    "Move",
    "Objective",
    "Plan",
    "Prediction",
    "Span",
    "Status",
    "Strategy",
    "StreamedWeight",
    "Task",
    "bounds",
    "check_plan",
    "make_plan",
    "plan_from_json",
    "plan_to_json",
    "run_lanes",
    "simulate",
]
