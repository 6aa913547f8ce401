"""`make demo`: draws a picture with words, reads them with streamed models, writes a report."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from flashmem_lab import __version__, workflow
from flashmem_lab.cli.console import print_table, progress_bars
from flashmem_lab.demo import models, ocr, picture
from flashmem_lab.demo.reading import Reader, Reading, open_reader
from flashmem_lab.device import DeviceSpec
from flashmem_lab.errors import FlashMemError
from flashmem_lab.lower import Precision
from flashmem_lab.outcome import Outcome
from flashmem_lab.plan import Strategy
from flashmem_lab.trace import Picture, Tile, summarize, write_html
from flashmem_lab.units import Budget, format_bytes, format_ms

_STREAMED, _PRELOADED = "streamed", "full preload"
_KERNELS = "Kernels were built for the streamed run and kept: compare first runs, not cold ones."


@dataclass(frozen=True, slots=True)
class _Demo:
    """All that is shown in the end."""

    device: DeviceSpec
    reader: Reader
    drawn: ocr.Pixels
    budget: str
    readings: Mapping[str, Reading]

    @property
    def right(self) -> bool:
        return all(reading.words == picture.WORDS for reading in self.readings.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the demo; exit code 1 if a word is read wrongly."""
    parser = argparse.ArgumentParser(prog="python -m flashmem_lab.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder of the results")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--budget", default="30%", help="30%%, min or bytes")
    parser.add_argument("--precision", type=Precision, default=Precision.FP32)
    options = parser.parse_args(argv)
    try:
        demo = _run(options.out, options.device, options.budget, options.precision)
        _print(demo)
        report = options.out / "report.html"
        _write_report(demo, report)
    except (FlashMemError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"\nreport: {report}")
    if not demo.right:
        print(f"error: the words are {', '.join(picture.WORDS)}", file=sys.stderr)
    return 0 if demo.right else 1


def _run(out: Path, device_id: str, budget: str, precision: Precision) -> _Demo:
    share = Budget.parse(budget)
    device = workflow.open_device(device_id)
    files = models.fetch(out / "models")
    drawn = picture.draw()
    Image.fromarray(drawn).save(out / "picture.png")
    with (
        open_reader(files, device, size=picture.SIZE, precision=precision) as reader,
        progress_bars() as tell,
    ):
        readings = {
            _STREAMED: reader.read(drawn, share, progress=tell),
            _PRELOADED: reader.read(
                drawn, Budget(share=1.0), strategy=Strategy.PRELOAD, progress=tell
            ),
        }
    return _Demo(device, reader, drawn, budget, readings)


def _print(demo: _Demo) -> None:
    words = demo.readings[_STREAMED].words
    print(f"Words read on {demo.device.name} ({demo.device.id}), weights streamed:\n")
    for line in words:
        print(f"    {line}")
    print()
    rows = [
        (
            model,
            f"{label}, budget {demo.budget}" if label == _STREAMED else label,
            format_bytes(outcome.program.budget_bytes),
            format_bytes(outcome.result.peak_bytes["total"]),
            format_bytes(outcome.program.predicted_peak_bytes),
            format_ms(outcome.result.first_run_ms),
            format_ms(min(outcome.result.warm_ms)),
        )
        for model in ("detection", "recognition")
        for label, outcome in _by_label(demo, model).items()
    ]
    columns = ("model", "weights", "budget", "peak", "predicted peak", "first run", "warm run")
    print_table(rows, columns=columns)


def _by_label(demo: _Demo, model: str) -> dict[str, Outcome]:
    return {label: getattr(reading, model) for label, reading in demo.readings.items()}


def _write_report(demo: _Demo, path: Path) -> None:
    sections = []
    for model, prepared, text in (
        ("detection", demo.reader.detection, "Finds the lines of text in the picture."),
        ("recognition", demo.reader.recognition, "Reads one line; shown is the first one."),
    ):
        outcomes = _by_label(demo, model)
        main_run = outcomes.pop(_STREAMED)
        sections.append(
            main_run.report_section(
                f"PP-OCRv4 {model}",
                summary=summarize(prepared.model),
                beside=outcomes,
                text=f"{text} {_KERNELS}",
            )
        )
    png = io.BytesIO()
    Image.fromarray(demo.drawn).save(png, "PNG")
    words = " / ".join(demo.readings[_STREAMED].words)
    peaks = {
        label: max(
            one.result.peak_bytes["total"] for one in (reading.detection, reading.recognition)
        )
        for label, reading in demo.readings.items()
    }
    write_html(
        path,
        sections,
        title="Words read with streamed weights",
        lead=(
            f"PP-OCRv4 found and read the words of this picture on {demo.device.name}. Its weights "
            f"were streamed from disk within a budget of {demo.budget} of the way from the least "
            "feasible one to full preload; the same was done with every weight preloaded."
        ),
        tiles=[
            Tile("Words read", words, "all right" if demo.right else "not all right"),
            Tile("Peak, streamed", format_bytes(peaks[_STREAMED]), "of the larger model"),
            Tile("Peak, full preload", format_bytes(peaks[_PRELOADED]), "of the larger model"),
        ],
        pictures=[Picture(png.getvalue(), "The picture that was read")],
        facts={
            "Device": f"{demo.device.id}, {demo.device.name}, {demo.device.driver}",
            "Models": models.WHEEL,
            "FlashMem Lab": __version__,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
