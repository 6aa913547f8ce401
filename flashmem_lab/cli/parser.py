"""Arguments of every command; imports nothing heavy, so that help comes at once."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TypeAlias

from flashmem_lab import __version__
from flashmem_lab.cli import bench, values

# Spelled out rather than taken from the enums, whose modules import NumPy; a test compares them.
STRATEGIES = ("lc-opg", "greedy", "preload", "always-next", "same-op")
OBJECTIVES = ("memory", "cold", "warm")
PRECISIONS = ("fp32", "fp16")
TRANSPORTS = ("copy", "map", "inline")
STORAGES = ("image2d", "buffer", "auto")
PAGE_CACHES = ("auto", "keep", "drop")
LAUNCHES = ("auto", "single", "recorded")

Options = argparse.Namespace


def build_parser() -> argparse.ArgumentParser:
    """The parser; its result has `module` and `function`, which name the command to call."""
    parser = argparse.ArgumentParser(
        prog="flashmem-lab",
        description="Runs ONNX models on OpenCL textures within a memory budget.",
    )
    parser.add_argument("--version", action="version", version=f"flashmem-lab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    _add_doctor(commands)
    _command(commands, "devices", "OpenCL devices and simulated ones")
    _add_inspect(commands)
    _add_plan(commands)
    _add_run(commands)
    _add_queue(commands)
    _add_sweep(commands)
    _add_profile(commands)
    _add_bundle(commands)
    _add_zoo(commands)
    _add_lab(commands)
    bench.add_arguments(
        _command(commands, "bench", "measurements that anyone can repeat", module="bench")
    )
    return parser


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001  (has no other name)


def _command(
    commands: Commands, name: str, text: str, *, module: str = "commands", function: str = ""
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(
        module=f"flashmem_lab.cli.{module}", function=function or name, parser=parser
    )
    return parser


def _add_doctor(commands: Commands) -> None:
    text = "what works on this machine and how to mend what does not"
    parser = _command(commands, "doctor", text, module="doctor")
    parser.add_argument("--quick", action="store_true", help="only the OpenCL devices")


def _add_inspect(commands: Commands) -> None:
    text = "layers, weights, parameters, MACs, operator classes, what runs on the host"
    parser = _command(commands, "inspect", text)
    _add_model(parser)
    parser.add_argument("--layers", action="store_true", help="list every layer")


def _add_plan(commands: Commands) -> None:
    parser = _command(commands, "plan", "which weight moves when, within a budget")
    _add_model(parser)
    parser.add_argument("--budget", type=values.budget, required=True, help=_BUDGET_HELP)
    _add_planning(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="PLAN.json", help="save the plan")


def _add_run(commands: Commands) -> None:
    parser = _command(commands, "run", "run a model or a bundle within a budget", module="running")
    _add_model(parser, "MODEL", "an .onnx file, or a bundle (.fmb)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--plan", type=Path, metavar="PLAN.json", help="a plan made before")
    which.add_argument("--budget", type=values.budget, help=_BUDGET_HELP)
    _add_planning(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="save the outputs as .npy files")
    parser.add_argument("--check", action="store_true", help="compare with onnxruntime")
    parser.add_argument(
        "--repeat", type=values.count, default=1, metavar="N", help="runs; 1st is cold"
    )
    parser.add_argument("--seed", type=values.seed, default=0, help="of inputs that are not given")
    parser.add_argument(
        "--page-cache",
        choices=PAGE_CACHES,
        default="auto",
        help="weights that were read, in host memory; auto keeps them where they fit twice",
    )
    parser.add_argument(
        "--launch",
        choices=LAUNCHES,
        default="auto",
        help="launches that every run repeats: one by one, or recorded and replayed from the 3rd "
        "run on; auto records where `profile` measured that it saves half",
    )
    parser.add_argument(
        "--trace", type=values.trace, metavar="FILE", help="save the trace: .pftrace, .json or .csv"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="save a report")


def _add_queue(commands: Commands) -> None:
    text = "run several models in turn under one cap, each loaded while others still run"
    parser = _command(commands, "queue", text, module="queueing")
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="an .onnx file")
    parser.add_argument("--budget", type=values.budget, required=True, help=_BUDGET_HELP)
    _add_lowering(parser)
    parser.add_argument("--transport", choices=TRANSPORTS, help="how bytes move; the device's")
    parser.add_argument(
        "--rounds", type=values.count, default=1, metavar="N", help="the whole queue"
    )
    parser.add_argument("--shuffle", action="store_true", help="each round in an order of its own")
    parser.add_argument("--seed", type=values.seed, default=0, help="of inputs and orders")
    parser.add_argument("--check", action="store_true", help="compare with onnxruntime")
    parser.add_argument(
        "--compare", action="store_true", help="then run them one after another, same cap"
    )
    parser.add_argument(
        "--trace", type=values.trace, metavar="FILE", help="save the trace: .pftrace, .json or .csv"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="save a report")


def _add_sweep(commands: Commands) -> None:
    text = "plans of models on devices within budgets: time against memory"
    parser = _command(commands, "sweep", text, module="sweeping")
    parser.allow_abbrev = False  # --device is another command's
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="an .onnx file")
    parser.add_argument(
        "--budgets",
        type=values.budget,
        nargs="+",
        required=True,
        metavar="BUDGET",
        help=_BUDGET_HELP,
    )
    parser.add_argument(
        "--devices", nargs="+", required=True, metavar="ID", help="ids from `flashmem-lab devices`"
    )
    parser.add_argument(
        "--dask", metavar="ADDRESS", help="plan on the workers of this dask.distributed scheduler"
    )
    _add_layers(parser)
    _add_choice(parser)


def _add_profile(commands: Commands) -> None:
    text = "measure a device, so that plans and predictions are of this one"
    parser = _command(commands, "profile", text, module="profiling")
    parser.add_argument("--device", help="id from `flashmem-lab devices`; first working one")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DEVICE.json", help="save it, to plan elsewhere"
    )


def _add_bundle(commands: Commands) -> None:
    text = "a program and its weights in one file that runs without ONNX"
    parser = _command(commands, "bundle", text, module="running")
    _add_model(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--plan", type=Path, metavar="PLAN.json", help="a plan made before")
    which.add_argument("--budget", type=values.budget, help=_BUDGET_HELP)
    _add_planning(parser)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.fmb")


def _add_zoo(commands: Commands) -> None:
    zoo = commands.add_parser("zoo", help="real models with weights drawn from a seed")
    actions = zoo.add_subparsers(metavar="ACTION", required=True)
    _command(actions, "list", "the models there are", function="zoo_list")
    make = _command(actions, "make", "write a model's .onnx and its data", function="zoo_make")
    make.add_argument("name", metavar="NAME")
    make.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    make.add_argument("--seed", type=values.seed, default=0)
    make.add_argument("--force", action="store_true", help="replace other files of these names")


def _add_lab(commands: Commands) -> None:
    parser = _command(commands, "lab", "JupyterLab with the workbench open", module="lab")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    parser.add_argument("--port", type=int, default=8888)


# --- shared by several commands ------------------------------------------------------------

_BUDGET_HELP = "what the device may hold at once: 200MB, 30%% (of the way to full preload) or min"


def _add_model(
    parser: argparse.ArgumentParser, metavar: str = "MODEL", text: str = "an .onnx file"
) -> None:
    parser.add_argument("model", type=Path, metavar=metavar, help=text)
    _add_lowering(parser)
    parser.add_argument(
        "--input",
        type=values.file,
        action="append",
        default=[],
        metavar="NAME=FILE.npy",
        help="an input; its shape counts too",
    )


def _add_lowering(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", help="id from `flashmem-lab devices`; first working one; or a profile's .json"
    )
    _add_layers(parser)


def _add_layers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="of the weights, and of what GPUs that can multiply with them; fp32",
    )
    parser.add_argument("--storage", choices=STORAGES, default="auto", help="of the weights")
    parser.add_argument(
        "--dim",
        type=values.dim,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="value of a symbolic dimension",
    )
    parser.add_argument(
        "--shape",
        type=values.shape,
        action="append",
        default=[],
        metavar="NAME=1x3x48x320",
        help="shape of an input whose dimensions have no name",
    )


def _add_planning(parser: argparse.ArgumentParser) -> None:
    _add_choice(parser)
    parser.add_argument(
        "--split-fused",
        action="store_true",
        help="undo fusions where load capacity runs out and the objective gains by it",
    )
    parser.add_argument(
        "--mu",
        type=values.share,
        metavar="SHARE",
        help="price of earlier loads in ranking fused layers to split; 0.1",
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--strategy", choices=STRATEGIES, help="who decides; greedy")
    parser.add_argument("--optimize", choices=OBJECTIVES, help="what is made least; cold")
    parser.add_argument(
        "--time-limit",
        type=values.seconds,
        metavar="SECONDS",
        help="for lc-opg to improve a plan; 10",
    )
    parser.add_argument(
        "--workers",
        type=values.count,
        metavar="N",
        help="2: lc-opg solves and searches side by side",
    )
    parser.add_argument(
        "--preload", action="append", default=[], metavar="NAME", help="a weight that stays"
    )
    parser.add_argument(
        "--stream", action="append", default=[], metavar="NAME", help="a weight that must not stay"
    )
    parser.add_argument(
        "--window",
        type=values.window,
        action="append",
        default=[],
        metavar="NAME=10:14",
        help="layers at one of which a weight's load begins",
    )
    parser.add_argument(
        "--lambda",
        type=values.share,
        dest="lambda_",
        metavar="SHARE",
        help="price of pinned bytes against prefetched ones in --optimize memory; 0.9",
    )
    parser.add_argument(
        "--chunk", type=values.size, metavar="SIZE", help="how much of a weight moves at once; 1MiB"
    )
    parser.add_argument("--transport", choices=TRANSPORTS, help="how bytes move; the device's")
