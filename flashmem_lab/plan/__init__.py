"""Layers, a device and a budget to a Plan: which weight moves when, and what that will cost."""

from flashmem_lab.plan.check import check_plan
from flashmem_lab.plan.codec import plan_from_json, plan_to_json
from flashmem_lab.plan.constraints import Constraints, Window
from flashmem_lab.plan.fusion import Split, splits
from flashmem_lab.plan.lanes import Contention, Span, Task, run_lanes
from flashmem_lab.plan.pareto import Point, pareto
from flashmem_lab.plan.plan import (
    Move,
    Objective,
    OverCapacity,
    Plan,
    Prediction,
    Status,
    Strategy,
    StreamedWeight,
)
from flashmem_lab.plan.planner import bounds, make_plan
from flashmem_lab.plan.score import Prices
from flashmem_lab.plan.search import Effort
from flashmem_lab.plan.simulate import simulate

__all__ = [
    "Constraints",
    "Contention",
    "Effort",
    "Move",
    "Objective",
    "OverCapacity",
    "Plan",
    "Point",
    "Prediction",
    "Prices",
    "Span",
    "Split",
    "Status",
    "Strategy",
    "StreamedWeight",
    "Task",
    "Window",
    "bounds",
    "check_plan",
    "make_plan",
    "pareto",
    "plan_from_json",
    "plan_to_json",
    "run_lanes",
    "simulate",
    "splits",
]
