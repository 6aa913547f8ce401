"""Two plans compared, in a few words each."""

from __future__ import annotations

from flashmem_lab.plan import Plan
from flashmem_lab.units import format_bytes, format_ms


def plan_diff(before: Plan, after: Plan) -> list[str]:
    """What is other in `after`; nothing where the two say the same.

    Args:
        before: a plan.
        after: another one for the same model.
    """
    old, new = before.predicted, after.predicted
    rows = [
        _change("peak", format_bytes(old.peak_bytes), format_bytes(new.peak_bytes)),
        _change("first run", format_ms(old.cold_ms), format_ms(new.cold_ms)),
        _change("later runs", format_ms(old.warm_ms), format_ms(new.warm_ms)),
    ]
    pinned = set(after.preloaded) - set(before.preloaded)
    freed = set(before.preloaded) - set(after.preloaded)
    loads = {one.weight: one.load_at for one in before.streamed}
    moved = [
        one.weight for one in after.streamed if loads.get(one.weight, one.load_at) != one.load_at
    ]
    for names, text in (
        (pinned, "now preloaded"),
        (freed, "now streamed"),
        (moved, "loaded at another layer"),
    ):
        if names:
            which = next(iter(names)) if len(names) == 1 else f"{len(names)} weights"
            rows.append(f"{which} {text}")
    return [row for row in rows if row]


def _change(what: str, old: str, new: str) -> str:
    return f"{what} {old} → {new}" if old != new else ""
