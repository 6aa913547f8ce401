"""The few ways in which widgets of a workbench are laid out."""

from __future__ import annotations

from typing import Any

import ipywidgets as widgets


def wide() -> Any:
    """The layout of what takes all the width that there is."""
    return widgets.Layout(width="100%")


def row(*children: Any) -> Any:
    """Widgets side by side, in as many lines as they need."""
    layout = widgets.Layout(align_items="center", flex_flow="row wrap", width="100%")
    return widgets.HBox(list(children), layout=layout)
