"""What is pointed at or chosen in one view, shown in the others."""

from __future__ import annotations

from itertools import pairwise

import anywidget
import ipywidgets as widgets
import traitlets

_NONE = {"weight": "", "first": -1, "last": -1}


class Brushed(anywidget.AnyWidget):
    """A view that tells what is pointed at in it, and shows what is pointed at in another.

    Attributes:
        hovered, chosen: a weight ("" for none) and layers from `first` to `last` (-1 for none);
            mirrored by `Brush` in widgets/src/core/brush.ts.
    """

    hovered = traitlets.Dict(default_value=_NONE).tag(sync=True)
    chosen = traitlets.Dict(default_value=_NONE).tag(sync=True)


def link(*views: Brushed) -> list[widgets.Widget]:
    """Links views in the browser, where they answer at once, however busy the kernel is.

    Returns:
        The links, to be closed with the views.
    """
    return [
        widgets.jslink((one, name), (other, name))
        for one, other in pairwise(views)
        for name in ("hovered", "chosen")
    ]
