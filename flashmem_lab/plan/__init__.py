"""Layers, a device and a budget to a Plan: which weight moves when, and what that will cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmem_lab.lazy import lazily

if TYPE_CHECKING:
    from flashmem_lab.plan.check import check_plan
    from flashmem_lab.plan.codec import plan_from_json, plan_to_json
    from flashmem_lab.plan.constraints import Constraints, Window
    from flashmem_lab.plan.fusion import Split, splits
    from flashmem_lab.plan.incumbent import Effort
    from flashmem_lab.plan.lanes import Contention, Span, Task, run_lanes
    from flashmem_lab.plan.pareto import Point, efficient
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
    "efficient",
    "make_plan",
    "plan_from_json",
    "plan_to_json",
    "run_lanes",
    "splits",
]

__getattr__ = lazily(
    __name__,
    {
        "check": ["check_plan"],
        "codec": ["plan_from_json", "plan_to_json"],
        "constraints": ["Constraints", "Window"],
        "fusion": ["Split", "splits"],
        "incumbent": ["Effort"],
        "lanes": ["Contention", "Span", "Task", "run_lanes"],
        "pareto": ["Point", "efficient"],
        "plan": [
            "Move",
            "Objective",
            "OverCapacity",
            "Plan",
            "Prediction",
            "Status",
            "Strategy",
            "StreamedWeight",
        ],
        "planner": ["bounds", "make_plan"],
        "score": ["Prices"],
    },
)
