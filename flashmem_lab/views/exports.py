"""Files to take away, and text to copy, from a workbench; its face is anywidget/exports.ts."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from flashmem_lab.plan import plan_to_json
from flashmem_lab.trace import summarize, trace_to_json, write_html, write_perfetto
from flashmem_lab.units import format_bytes
from flashmem_lab.views import markup
from flashmem_lab.views.engine import Engine
from flashmem_lab.views.recipe import Recipe
from flashmem_lab.views.running import Runner
from flashmem_lab.views.static import static
from flashmem_lab.worker.sketch import preview

if TYPE_CHECKING:
    from flashmem_lab.outcome import Outcome
    from flashmem_lab.plan import Plan
    from flashmem_lab.prepared import Prepared
    from flashmem_lab.trace import Trace


class What(StrEnum):
    """What can be taken away; mirrored in widgets/src/anywidget/exports.ts."""

    PLAN = "plan"
    TRACE = "trace"
    PERFETTO = "perfetto"
    REPORT = "report"
    BUNDLE = "bundle"


@dataclass(frozen=True, slots=True)
class Subject:
    """What is on the screen.

    Attributes:
        model: path of the .onnx file.
        prepared: the model on its device.
        plan: that is shown.
        outcome: of a run of it; None before there was one.
    """

    model: Path
    prepared: Prepared
    plan: Plan
    outcome: Outcome | None

    @property
    def trace(self) -> Trace:
        """Measured where it ran, else predicted."""
        if self.outcome is not None:
            return self.outcome.result.trace
        return preview(self.prepared, self.plan)


@dataclass(frozen=True, slots=True)
class File:
    """A file for the browser's downloads, or words on one that was written here."""

    name: str
    content: bytes
    words: str


def export(what: What, subject: Subject, engine: Engine) -> File:
    """Makes a file.

    A bundle is as large as the model, so it is written beside it instead of being downloaded.

    Raises:
        FlashMemError: it cannot be written.
    """
    stem = subject.model.stem
    if what is What.PLAN:
        text = json.dumps(plan_to_json(subject.plan), indent=1)
        return _download(f"{stem}.plan.json", text.encode())
    if what is What.TRACE:
        text = json.dumps(trace_to_json(subject.trace), separators=(",", ":"))
        return _download(f"{stem}.trace.json", text.encode())
    if what is What.BUNDLE:
        return _bundle(subject, engine)
    with TemporaryDirectory() as folder:
        if what is What.PERFETTO:
            path = Path(folder) / f"{stem}.pftrace"
            write_perfetto(subject.trace, path)
        else:
            path = Path(folder) / f"{stem}.html"
            _write_report(subject, path)
        return _download(path.name, path.read_bytes())


def _download(name: str, content: bytes) -> File:
    return File(name, content, f"{name}: {format_bytes(len(content))}")


def _write_report(subject: Subject, path: Path) -> None:
    outcome = subject.outcome
    assert outcome is not None, "the button waits for a run"
    section = outcome.report_section(
        outcome.program.model, summary=summarize(subject.prepared.model)
    )
    write_html(path, [section], title=f"{outcome.program.model} on {outcome.device.name}")


def _bundle(subject: Subject, engine: Engine) -> File:
    path = subject.model.with_suffix(".fmb")
    engine.save_bundle(subject.prepared, subject.plan, path)
    return File("", b"", f"wrote {path.name} beside the model: {format_bytes(path.stat().st_size)}")


class ExportsView(anywidget.AnyWidget):
    """Buttons that download or copy what is on the screen.

    Args:
        engine: writes bundles.
        subject: called when a button is pressed; None where there is no plan.

    Attributes:
        command, python: the text that is copied.
        measured: whether there is a run to report on.
    """

    command = traitlets.Unicode().tag(sync=True)
    python = traitlets.Unicode().tag(sync=True)
    measured = traitlets.Bool(False).tag(sync=True)

    def __init__(self, engine: Engine, subject: Callable[[], Subject | None]) -> None:
        self._engine, self._subject = engine, subject
        self._maker: Runner[File] = Runner(lambda message: None, self._made)
        self._esm, self._css = static("exports.js"), static("base.css")
        super().__init__()
        self.on_msg(self._asked)

    def show(self, recipe: Recipe | None, *, measured: bool) -> None:
        """What is on the screen changed; None where there is no plan."""
        self.command = recipe.command() if recipe else ""
        self.python = recipe.python() if recipe else ""
        self.measured = measured

    def close(self) -> None:
        """Removes the widget."""
        self._maker.close()
        super().close()

    def _asked(self, widget: Any, content: dict[str, Any], buffers: Any) -> None:
        subject = self._subject()
        match content:
            case {"kind": "export", "what": str(what)} if subject and self._maker.job is None:
                wanted = What(what)
                self._maker.start(lambda hear, stop: export(wanted, subject, self._engine))

    def _made(self, job: Future[File]) -> None:
        error = job.exception()
        if error is not None:
            self.send({"kind": "failed", "words": markup.plain(error)})
            return
        file = job.result()
        content = {"kind": "made", "name": file.name, "words": file.words}
        self.send(content, [file.content] if file.name else [])
