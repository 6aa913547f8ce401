"""The `bench` command: a small table of benches, each a module that is imported when it runs."""

from __future__ import annotations

import argparse
from importlib import import_module

BENCHES = {
    "kernels": "rates of products from images and buffers, beside NumPy's BLAS",
    "models": "whole models, warm and resident, beside onnxruntime",
    "cold": "from process start to the first output of a bundle, beside onnxruntime",
    "streaming": "warm runs within a budget, beside resident ones and the disk alone",
    "offload": "streamed weights beside accelerate's offload, on an NVIDIA GPU",
    "memory": "what each model holds on the device, at several budgets, beside the paper",
    "prediction": "peaks and times as predicted from a profile, beside measured ones",
    "queue": "several models under one cap, beside one after another",
    "planner": "how fast and how good plans are, beside the paper's figures",
}
"""What there is, by name: `flashmem_lab.bench.NAME` has `main(arguments)`, which reads its own
options, `--json` among them, and returns the exit code."""


def bench(options: argparse.Namespace) -> int:
    """Runs one bench with the arguments that follow its name."""
    module = import_module(f"flashmem_lab.bench.{options.name}")
    before = ["--json"] if options.json else []
    return int(module.main([*before, *options.arguments]))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The bench's name, and whatever it makes of the rest."""
    parser.add_argument("name", choices=BENCHES, metavar="NAME", help="one of those below")
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="of that bench; try --help"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter  # keeps the lines apart
    parser.epilog = "\n".join(f"  {name:<12}{text}" for name, text in BENCHES.items())
