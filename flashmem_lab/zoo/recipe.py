"""The zoo's entries: what a recipe (data/NAME.toml) and its export (data/NAME.tar.xz) say."""

from __future__ import annotations

import functools
import json
import math
import tarfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import IO, Any

from flashmem_lab.errors import UsageError
from flashmem_lab.zoo.weights import (
    Distribution,
    Normal,
    Rule,
    parse_distribution,
    parse_rule,
)

DEFAULT_RULES = "default_weights.toml"
ARCHIVE_SUFFIX = ".tar.xz"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A graph input and how a sample of it is drawn."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    draw: Distribution


@dataclass(frozen=True, slots=True)
class PaperRow:
    """What the paper's table says about the model; the public one may differ (ZooEntry.note)."""

    name: str
    params_m: float
    macs_g: float
    layers: int


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of the data file: a weight to draw, or a constant to copy."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int  # bytes from the start of the data file
    length: int  # bytes
    distribution: Distribution | None  # of a weight
    constant: int | None  # of a constant: where it starts in the archive's constants.bin, bytes


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """One model of the zoo."""

    name: str
    title: str
    note: str
    reference: str  # the public checkpoint that has this configuration
    exporter: Mapping[str, str]  # library -> version that wrote the graph
    opset: int
    params: int  # as torch counts them: a shared tensor once
    macs: int  # of every matrix product and convolution, attention included
    nodes: int
    operators: Mapping[str, int]  # op_type -> nodes
    inputs: tuple[InputSpec, ...]
    outputs: Mapping[str, tuple[int, ...]]  # name -> shape
    paper: PaperRow | None
    data_bytes: int  # size of NAME.onnx.data
    tensors: tuple[TensorSpec, ...] = field(repr=False)  # in file order
    archive: Traversable = field(repr=False)


def data_folder() -> Traversable:
    """Where the package keeps its recipes and graphs."""
    return _package() / "data"


def _package() -> Traversable:
    return files("flashmem_lab.zoo")


def names() -> tuple[str, ...]:
    """Names of the models in the zoo, sorted."""
    found = (item.name for item in data_folder().iterdir())
    return tuple(
        sorted(name.removesuffix(ARCHIVE_SUFFIX) for name in found if name.endswith(ARCHIVE_SUFFIX))
    )


@functools.cache
def entry(name: str) -> ZooEntry:
    """The model called ``name``.

    Raises:
        UsageError: the zoo has no such model.
    """
    if name not in names():
        raise UsageError(f"the zoo has no model {name!r}", hint=f"one of: {', '.join(names())}")
    return load(data_folder(), name)


def load(folder: Traversable, name: str) -> ZooEntry:
    """Reads the recipe and the exported facts of one model from ``folder``."""
    recipe = tomllib.loads((folder / f"{name}.toml").read_text("utf-8"))
    defaults = tomllib.loads((_package() / DEFAULT_RULES).read_text("utf-8"))
    rules = [parse_rule(table) for table in [*recipe.get("weights", []), *defaults["weights"]]]
    archive = folder / f"{name}{ARCHIVE_SUFFIX}"
    with archive.open("rb") as stream, open_archive(stream) as members:
        facts = json.loads(read_member(members, "facts.json"))
    paper = recipe.get("paper")
    return ZooEntry(
        name=name,
        title=recipe["title"],
        note=recipe.get("note", ""),
        reference=recipe["source"].get("reference", ""),
        exporter=facts["exporter"],
        opset=facts["opset"],
        params=facts["params"],
        macs=facts["macs"],
        nodes=facts["nodes"],
        operators=facts["operators"],
        inputs=tuple(
            InputSpec(
                spec["name"], spec["dtype"], tuple(spec["shape"]), parse_distribution(spec["draw"])
            )
            for spec in recipe["inputs"]
        ),
        outputs={output: tuple(shape) for output, shape in facts["outputs"].items()},
        paper=PaperRow(**paper) if paper else None,
        data_bytes=facts["data_bytes"],
        tensors=tuple(_tensor(row, rules) for row in facts["tensors"]),
        archive=archive,
    )


def open_archive(stream: IO[bytes]) -> tarfile.TarFile:
    """Opens NAME.tar.xz for reading members in their order: facts, graph, constants."""
    return tarfile.open(fileobj=stream, mode="r:xz")


def read_member(members: tarfile.TarFile, name: str) -> bytes:
    """The whole of one member."""
    return member_stream(members, name).read()


def member_stream(members: tarfile.TarFile, name: str) -> IO[bytes]:
    """One member, to be read piece by piece."""
    stream = members.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is not a file")
    return stream


def _tensor(row: Mapping[str, Any], rules: list[Rule]) -> TensorSpec:
    shape = tuple(row["shape"])
    distribution = None
    if "constant" not in row:
        rank = sum(size != 1 for size in shape)
        fitting = (rule.distribution_of(row["origin"], rank, row["fan_in"]) for rule in rules)
        distribution = next((found for found in fitting if found is not None), None)
        if distribution is None or row["dtype"] != "float32":
            raise ValueError(f"no rule draws {row['dtype']} {row['origin']}")
        if isinstance(distribution, Normal) and distribution.row not in (0, math.prod(shape[1:])):
            raise ValueError(f"the weights of an output of {row['origin']} are not contiguous")
    return TensorSpec(
        name=row["name"],
        dtype=row["dtype"],
        shape=shape,
        offset=row["offset"],
        length=row["length"],
        distribution=distribution,
        constant=row.get("constant"),
    )
