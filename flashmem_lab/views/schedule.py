"""The schedule of a plan as a widget; its browser's face is widgets/src/anywidget/schedule.ts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import traitlets

from flashmem_lab.views.brush import Brushed
from flashmem_lab.views.edits import Action, Edit
from flashmem_lab.views.static import static


class ScheduleView(Brushed):
    """Lanes over layers and the life of every weight; tells what people ask for.

    Args:
        edited: called with an edit of one weight.
        moved: called with -1 for undo, 1 for redo, 0 to drop every edit.

    Attributes:
        plan: layers and weights (`plan_data`).
        against: a baseline's strategy to compare the plan with; "" for none.
        height: px.
    """

    plan = traitlets.Bytes().tag(sync=True)
    against = traitlets.Unicode("").tag(sync=True)
    notes = traitlets.Dict().tag(sync=True)
    height = traitlets.Int(560).tag(sync=True)

    def __init__(self, edited: Callable[[Edit], None], moved: Callable[[int], None]) -> None:
        self._edited, self._moved = edited, moved
        self._esm, self._css = static("schedule.js"), static("base.css")
        super().__init__()
        self.on_msg(self._heard)

    def say(
        self,
        diff: Sequence[tuple[str, Sequence[str]]] = (),
        *,
        refused: tuple[str, str] | None = None,
        can_undo: bool,
        can_redo: bool,
    ) -> None:
        """Words beside the picture.

        Args:
            diff: what a plan is compared with, and in what it is other.
            refused: a weight whose edit cannot be, and why.
            can_undo: whether there is something to undo.
            can_redo: whether something was undone.
        """
        self.notes = {
            "diff": [[what, list(rows)] for what, rows in diff],
            "refused": list(refused) if refused else None,
            "undo": can_undo,
            "redo": can_redo,
        }

    def _heard(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        match content:
            case {"kind": "edit", "action": str(action), "weight": str(weight)}:
                first, last = int(content.get("first", 0)), int(content.get("last", 0))
                self._edited(Edit(Action(action), weight, first, last))
            case {"kind": "move", "by": int(by)}:
                self._moved(by)
