"""The command that runs several models under one cap."""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from flashmem_lab import workflow
from flashmem_lab.cli.common import opened, save_trace
from flashmem_lab.cli.console import print_json, print_table, progress_bars, say
from flashmem_lab.cli.parser import Options
from flashmem_lab.cli.targets import refuse_targets
from flashmem_lab.errors import FlashMemError
from flashmem_lab.units import format_bytes, format_ms

if TYPE_CHECKING:
    from flashmem_lab.device import DeviceSpec
    from flashmem_lab.queues import Queue, QueueOutcome

T = TypeVar("T")


def queue(options: Options) -> int:
    """Runs models in turn; exit code 1 if a check fails."""
    from flashmem_lab.device import Transport
    from flashmem_lab.queues import run_queue

    refuse_targets(options)
    models = _open(options, workflow.open_device(options.device or "auto"))
    with progress_bars() as tell:
        outcome = run_queue(
            models,
            budget=options.budget,
            transport=Transport(options.transport) if options.transport else None,
            check=options.check,
            compare=options.compare,
            seed=options.seed,
            progress=tell,
            say=say,
        )
    if options.trace is not None:
        save_trace(outcome.result.trace, options.trace)
    if options.html is not None:
        from flashmem_lab.trace import write_html

        title = f"{len(outcome.places)} models on {outcome.program.device}"
        write_html(options.html, [outcome.report_section()], title=title)
    if options.json:
        print_json(outcome.to_json())
    else:
        _print(outcome)
    wrong = [place.model for place in outcome.places if place.check and not place.check.ok]
    if wrong:
        raise FlashMemError(f"the outputs of {wrong[0]} differ from onnxruntime's")
    return 0


def _open(options: Options, device: DeviceSpec) -> Queue:
    from flashmem_lab.queues import Queue

    paths: list[Path] = list(dict.fromkeys(options.models))
    models = tuple(
        opened(
            options,
            path,
            device,
            dims=_of_model(options.dim, path, paths),
            shapes=_of_model(options.shape, path, paths),
        )
        for path in paths
    )
    once = [paths.index(path) for path in options.models]
    generator = random.Random(options.seed)
    order: list[int] = []
    for _ in range(options.rounds):
        order += generator.sample(once, len(once)) if options.shuffle else once
    return Queue(models, tuple(order))


def _of_model(given: list[tuple[str, T]], path: Path, paths: list[Path]) -> dict[str, T]:
    """Values for one model: those that name it ("det:batch=1"), and those that name none."""
    stems = {other.stem for other in paths}
    found: dict[str, T] = {}
    for name, value in given:
        stem, colon, rest = name.partition(":")
        if not colon or stem not in stems:
            found[name] = value
        elif stem == path.stem:
            found[rest] = value
    return found


def _print(outcome: QueueOutcome) -> None:
    print_table(
        (
            (
                place.model,
                format_ms(place.start_ms),
                format_ms(place.end_ms),
                "" if place.check is None else f"{place.check.rel_l2:.1e}",
            )
            for place in outcome.places
        ),
        columns=("model", "first layer", "last layer", "relative L2"),
        title=f"queue on {outcome.program.device}",
    )
    figures = outcome.to_json()
    rows = [
        ("budget", format_bytes(figures["budget_bytes"])),
        ("peak", format_bytes(figures["peak_bytes"]["total"])),
        ("all resident", format_bytes(figures["preload_peak_bytes"])),
        ("kept", f"{format_bytes(figures['kept_bytes'])} that stayed for a later round"),
        (
            "total",
            f"{format_ms(figures['total_ms'])}, predicted "
            f"{format_ms(figures['predicted']['total_ms'])}",
        ),
        ("stalled", format_ms(figures["stall_ms"])),
    ]
    rows += [
        (
            f"one by one, {one.strategy}",
            f"{format_ms(one.total_ms)} in {format_bytes(one.peak_bytes)}",
        )
        for one in outcome.alone
    ]
    print_table(rows)
