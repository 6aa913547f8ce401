"""Makes a plotly figure as wide as the cell it is shown in."""

from __future__ import annotations

from typing import Any

_SCRIPT = """
export default {
  render({ el }) {
    // plotly's widget is drawn before it is in the page, where nothing has a width yet, and later
    // follows only the window. So the window is said to have changed when the box around did.
    let frame = 0;
    const observer = new ResizeObserver(() => {
      cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => window.dispatchEvent(new Event("resize")));
    });
    const attach = () => {
      if (el.isConnected) observer.observe(el.parentElement.closest(".widget-vbox"));
      else frame = requestAnimationFrame(attach);
    };
    attach();
    return () => { cancelAnimationFrame(frame); observer.disconnect(); };
  },
};
"""


def fit() -> Any:
    """A widget without a face; put it into the VBox that holds figures with `responsive` set."""
    import anywidget
    import ipywidgets

    return anywidget.AnyWidget(_esm=_SCRIPT, layout=ipywidgets.Layout(display="none"))
