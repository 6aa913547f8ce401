"""Colours and axes shared by the figures; they read on light and on dark pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashmem_lab.plan.timeline import Pool

POOL_COLOURS: Mapping[Pool, str] = {
    Pool.STAGING: "#d9a441",
    Pool.BUFFER: "#4fb3a0",
    Pool.TEXTURE: "#4f7cc4",
    Pool.HOST: "#8b95a1",
}
POOL_NAMES: Mapping[Pool, str] = {
    Pool.STAGING: "Staging ring",
    Pool.BUFFER: "Activations (buffers)",
    Pool.TEXTURE: "Weights (textures)",
    Pool.HOST: "Host process (RSS)",
}
KIND_COLOURS: Mapping[str, str] = {
    "read": "#d9a441",
    "upload": "#4f7cc4",
    "launch": "#4fb3a0",
    "replay": "#2f7f8f",
    "host": "#9b6fc9",
    "rows": "#b07d56",
    "write-input": "#8b95a1",
    "read-output": "#5f6b7a",
    "stall": "#e5484d",
}
KIND_NAMES: Mapping[str, str] = {
    "read": "disk read",
    "upload": "texture upload",
    "launch": "kernel",
    "replay": "kernels, replayed together",
    "host": "on the host",
    "rows": "table rows",
    "write-input": "input",
    "read-output": "output",
    "stall": "stall: waits for weights",
}
OTHER_COLOUR = "#8b95a1"
TOTAL_COLOUR = "#4a7fe0"
PREDICTED_COLOUR = "#a63fd1"
BUDGET_COLOUR = "#e5484d"

_INK = "#6e7781"  # contrast of at least 4 on white and on near-black
_GRID = "rgba(128,138,150,0.22)"
FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"


def axis(title: str) -> dict[str, Any]:
    """An axis with a quiet grid."""
    return {
        "title": {"text": title, "standoff": 8},
        "gridcolor": _GRID,
        "zeroline": False,
        "linecolor": _GRID,
        "showline": True,
        "ticks": "outside",
        "tickcolor": _GRID,
        "automargin": False,
    }


def base_layout(height: int) -> dict[str, Any]:
    """What all figures share: transparent ground, legend above the plot, hover in dark ink.

    Margins are fixed, so that figures one above the other have their time axes aligned.
    """
    return {
        "height": height,
        "margin": {"l": 82, "r": 16, "t": 44, "b": 48},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": FONT, "size": 13, "color": _INK},
        "legend": {
            "orientation": "h",
            "x": 0,
            "xanchor": "left",
            "y": 1.02,
            "yanchor": "bottom",
            "traceorder": "normal",
        },
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#9aa5b3", "activecolor": "#4f7cc4"},
        "hoverlabel": {
            "bgcolor": "rgba(255,255,255,0.97)",
            "bordercolor": "#c7ced6",
            "font": {"family": FONT, "size": 12, "color": "#1f2937"},
            "namelength": -1,
        },
    }
