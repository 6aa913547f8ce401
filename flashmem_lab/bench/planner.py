"""`flashmem-lab bench planner`: how fast and how good plans are, beside the paper's figures."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from datetime import UTC, datetime

from flashmem_lab.cli.console import print_json, print_table
from flashmem_lab.device import simulated_devices


def main(arguments: Sequence[str]) -> int:
    """Runs what is asked for and prints it.

    Args:
        arguments: those after the bench's name.
    """
    parser = argparse.ArgumentParser(prog="flashmem-lab bench planner")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--device", choices=sorted(simulated_devices()), default="sim:adreno750")
    options = parser.parse_args(arguments)
    report = {
        "schema": "flashmem-lab/bench-planner/1",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": platform.platform(),
        "device": options.device,
    }
    if options.json:
        print_json(report)
    else:
        print_table([(name, str(value)) for name, value in report.items()])
    return 0
