"""Plans as files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flashmem_lab.errors import PlanError, UsageError, from_os_error

if TYPE_CHECKING:
    from flashmem_lab.lower import LoweredModel
    from flashmem_lab.plan import Plan

_SUMS = {"preloaded_bytes", "streamed_bytes", "layers", "weights"}  # derived: not part of a Plan


def plan_document(plan: Plan, model: LoweredModel) -> dict[str, Any]:
    """The plan as JSON with the sums that people ask for; `load_plan` reads it like any plan."""
    from flashmem_lab.plan import plan_to_json

    def held(names: Iterable[str]) -> int:
        return sum(model.weights[name].device_bytes for name in names)

    sums: dict[str, int] = {
        "preloaded_bytes": held(plan.preloaded),
        "streamed_bytes": held(streamed.weight for streamed in plan.streamed),
        "layers": len(model.layers),
        "weights": len(plan.preloaded) + len(plan.streamed),
    }
    assert sums.keys() == _SUMS, "load_plan leaves out what is added here"
    return {**plan_to_json(plan), **sums}


def save_plan(plan: Plan, path: Path) -> None:
    """Writes a plan as JSON, whole or not at all; an older plan at `path` is replaced.

    Raises:
        UsageError: something that is not a plan is at `path`.
        DiskFull: no room.
    """
    from flashmem_lab.plan import plan_to_json
    from flashmem_lab.trace.write import write_file

    if path.exists():
        try:
            load_plan(path)
        except PlanError:
            raise UsageError(
                f"{path} exists and is not a plan; it is left alone", hint="choose another name"
            ) from None
    write_file(path, json.dumps(plan_to_json(plan), indent=1) + "\n", "writing the plan")


def load_plan(path: Path) -> Plan:
    """Reads a plan; `check_plan` in `compile_plan` says whether it is for a model.

    Raises:
        PlanError: missing, damaged or of another version.
    """
    from flashmem_lab.plan import plan_from_json

    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise PlanError(f"there is no plan file {path}", hint="check the path") from None
    except OSError as error:
        raise from_os_error(error, "reading the plan") from error
    except (ValueError, RecursionError):
        raise PlanError(f"{path} is not a plan: not JSON", hint="give a plan.json") from None
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key not in _SUMS}
    return plan_from_json(data)
