"""Options that benches share, named and explained alike."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from flashmem_lab import zoo
from flashmem_lab.cli import values
from flashmem_lab.devices import SIMULATED


def bench_parser(
    name: str, text: str, *, device: str = "auto", measures: bool = True
) -> argparse.ArgumentParser:
    """The parser of one bench, with `--json` and `--device`.

    Args:
        name: of the bench.
        text: what it does; its module's docstring.
        device: the default.
        measures: whether it refuses devices that are simulated.
    """
    parser = argparse.ArgumentParser(f"flashmem-lab bench {name}", description=text)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--device",
        type=real_device if measures else str,
        default=device,
        help=f"id from `flashmem-lab devices`; {device}",
    )
    return parser


def real_device(text: str) -> str:
    """The id of a device that can be measured."""
    if text.startswith(SIMULATED) or text.endswith(".json"):
        raise argparse.ArgumentTypeError(f"{text} is simulated: there is nothing to measure")
    return text


def budget(text: str) -> str:
    """A budget that `run` takes, as it was typed."""
    values.budget(text)
    return text


def add_models(
    parser: argparse.ArgumentParser, default: Sequence[str], *, names: Sequence[str] | None = None
) -> None:
    """`--models` of the zoo, and `--folder` to find or keep them in (see `runs.zoo_model`).

    Args:
        parser: of a bench.
        default: models.
        names: what may be chosen where no files are needed, hence no folder.
    """
    parser.add_argument(
        "--models",
        nargs="+",
        default=default,
        choices=names or zoo.names(),
        metavar="NAME",
        help=" ".join(default) if names else f"of the zoo; {' '.join(default)}",
    )
    if names is None:
        parser.add_argument(
            "--folder",
            type=Path,
            help="where models are, or are made and kept; else they are deleted",
        )


def add_precision(parser: argparse.ArgumentParser, default: str) -> None:
    """`--precision` of the weights."""
    parser.add_argument(
        "--precision", choices=("fp32", "fp16"), default=default, help=f"of the weights; {default}"
    )
