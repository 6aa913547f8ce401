"""Plans as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashmem_lab.errors import PlanError
from flashmem_lab.plan.plan import Plan
from flashmem_lab.serial import from_plain, to_plain

SCHEMA = "flashmem-lab/plan/1"


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """Plain values that say the plan, with "schema"."""
    return {"schema": SCHEMA, **to_plain(plan)}


def plan_from_json(data: Mapping[str, object]) -> Plan:
    """The plan that `plan_to_json` wrote; whether it holds for a model is `check_plan`'s matter.

    Raises:
        PlanError: it is not a plan, of another schema, or damaged; the message says where.
    """
    hint = "make the plan anew: flashmem-lab plan MODEL ... -o plan.json"
    if not isinstance(data, Mapping) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, Mapping) else type(data).__name__
        raise PlanError(f"not a plan: schema is {found!r}, expected {SCHEMA!r}", hint=hint)
    try:
        plan = from_plain({key: data[key] for key in data if key != "schema"}, Plan)
    except ValueError as error:
        raise PlanError(f"the plan is damaged at {error}", hint=hint) from None
    for name in ("solve_ms", "first_plan_ms"):
        if getattr(plan, name) < 0:
            raise PlanError(f"the plan is damaged at $.{name}: a time below 0", hint=hint)
    return plan
