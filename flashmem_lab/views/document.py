"""The workbench of a file that JupyterLab opened: one in a kernel, shown again after a reload."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets

from flashmem_lab.device import simulated_devices
from flashmem_lab.errors import FlashMemError, InputError
from flashmem_lab.lower.layer import Precision
from flashmem_lab.views import markup
from flashmem_lab.views.engine import Engine
from flashmem_lab.views.kept import FIRST_PERCENT, Keeper, Kept
from flashmem_lab.views.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Mapping

_PAIR = re.compile(r"([\w.\-/:]+)\s*=\s*(\d+)")
_SIMULATED = next(iter(simulated_devices()))
_open: dict[str, Document] = {}


def show(path: str) -> Document:
    """The document of `path` in this kernel; made at the first call, the same one at the next.

    JupyterLab runs this in the kernel that it starts for a file, in the file's folder.
    """
    if path not in _open:
        _open[path] = Document(path)
    return _open[path]


class Document:
    """A workbench, or what keeps it from being made and a way to mend that.

    Budget and edits are kept on disk as they are made: a kernel that dies, a server that is
    stopped or a tab that is closed loses none of them.

    Args:
        path: of an .onnx file.
        engine: opens, plans and runs; see `Workbench`.

    Attributes:
        bench: the workbench; None while there is none.
        box: the widget to show.
    """

    def __init__(self, path: Path | str, engine: Engine | None = None) -> None:
        if engine is None:
            from flashmem_lab.worker import isolated

            engine = isolated()
        self._engine: Engine = engine
        self._path = Path(path)
        self._keeper = Keeper(self._path)
        self.bench: Workbench | None = None
        self._error = widgets.HTML()
        self._dims = widgets.Text(
            description="Dimensions",
            placeholder="batch=1 sequence=128",
            style={"description_width": "84px"},
            layout=widgets.Layout(width="420px"),
        )
        self._again = widgets.Button(description="Open", button_style="primary")
        self._again.on_click(self._pressed)
        self._form = widgets.HBox([self._dims, self._again])
        self._words = widgets.HTML()
        self._afresh = widgets.Button(
            description="Start afresh",
            tooltip="drop every edit and go back to the first budget",
            layout=widgets.Layout(width="110px"),
        )
        self._afresh.on_click(self._dropped)
        self._restored = widgets.HBox(
            [self._words, self._afresh], layout=widgets.Layout(align_items="center")
        )
        self.box = widgets.VBox(layout=widgets.Layout(width="100%"))
        kept = self._keeper.load()
        self._make(kept.dims if kept else {}, kept)

    def _repr_mimebundle_(self, **keywords: Any) -> Any:
        return self.box._repr_mimebundle_(**keywords)

    def _pressed(self, sender: Any) -> None:
        self._make({name: int(value) for name, value in _PAIR.findall(self._dims.value)}, None)

    def _dropped(self, sender: Any) -> None:
        """Another workbench takes the place of this one, with nothing asked for."""
        assert self.bench is not None, "the button is only there beside a workbench"
        dims = self.bench.kept.dims
        self.bench.close()
        self._make(dims, None)

    def _make(self, dims: Mapping[str, int], kept: Kept | None) -> None:
        """Opens the file; what fails is said in place of the workbench."""
        devices = ["auto", _SIMULATED]  # without OpenCL there is everything but outputs
        budget, precision = FIRST_PERCENT, Precision.FP32
        if kept is not None:
            devices.insert(0, kept.choice.device)  # it may be gone
            budget, precision = kept.choice.percent, kept.choice.precision
        try:
            self.bench = Workbench(
                self._path,
                device=devices,
                budget=f"{budget}%",
                precision=precision,
                dims=dims,
                kept=kept,
                keeper=self._keeper,
                failed=self._failed,
                engine=self._engine,
            )
        except FlashMemError:  # where no event loop runs; it was told by then
            return
        self.box.children = (self.bench.widget,)
        if kept is not None and not kept.is_first:
            self._words.value = markup.note(_in_words(kept))
            self.box.children = (self._restored, self.bench.widget)

    def _failed(self, error: BaseException) -> None:
        """The file cannot be opened, with these dimensions or at all."""
        if self.bench is not None:
            self.bench.close()
            self.bench = None
        wanted = isinstance(error, InputError)
        hint = "write below what each of them is, and open it again" if wanted else ""
        self._error.value = f"{markup.STYLE}{markup.failure(error, hint)}"
        self._again.description = "Open" if wanted else "Try again"
        self._dims.layout.display = None if wanted else "none"
        self.box.children = (self._error, self._form)


def _in_words(kept: Kept) -> str:
    """What came back."""
    edits = f"{kept.count} edit{'' if kept.count == 1 else 's'} of the schedule"
    return f"As it was left: a budget at {kept.choice.percent:.1f} %, {edits}."
