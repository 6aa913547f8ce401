"""The tables of `bench planner` as Markdown, one row a model: what docs/planner.md shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashmem_lab.plan import Objective, Strategy

Rows = Sequence[Mapping[str, Any]]

RUNS = ("cold", "warm")

NEAR = 0.01
"""Gap up to which a plan counts as proven, beside "OPTIMAL"."""


def markdown(tables: Mapping[str, Rows], header: str) -> str:
    """The tables that were made, each below a heading.

    Args:
        tables: rows by name of the table: solve, naive, paper, replan.
        header: device, machine and date, in a line.
    """
    writers = {"solve": _solve, "naive": _naive, "paper": _paper, "replan": _replan}
    parts = [header, *(f"## {name}\n\n{writers[name](rows)}" for name, rows in tables.items())]
    return "\n\n".join(parts) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _solve(rows: Rows) -> str:
    asked = [one for one in Objective if any(row["optimize"] == one.value for row in rows)]
    lines = []
    for name in dict.fromkeys(row["model"] for row in rows):
        own = [row for row in rows if row["model"] == name]
        gaps = [
            ", ".join(f"{row['gap']:.2%}" for row in own if row["optimize"] == one.value)
            for one in asked
        ]
        slowest = max(row["solve_ms"] for row in own) / 1e3
        greedy = max(row["greedy_ms"] for row in own)
        counts = f"{name} ({own[0]['layers']}, {own[0]['weights']})"
        paper = own[0]["paper"] or "-"
        lines.append([counts, *gaps, f"{slowest:.1f} s", f"{greedy:.0f} ms", paper])
    budgets = ", ".join(f"{share:.0%}" for share in sorted({row["budget"] for row in rows}))
    columns = (
        "model (layers, weights)",
        *(f"{one.value}: gap at {budgets}" for one in asked),
        "longest lc-opg",
        "slowest greedy",
        "paper, 128 threads",
    )
    proven = sum(row["gap"] <= NEAR for row in rows)
    return _table(columns, lines) + f"\n\n{proven} of {len(rows)} gaps are {NEAR:.0%} or less."


def _naive(rows: Rows) -> str:
    ways = [(way, run) for way in (Strategy.ALWAYS_NEXT, Strategy.SAME_OP) for run in RUNS]
    lines = [
        [
            row["model"],
            *(f"{row[way][run]:.2f} (+{row[way][run + '_carried']:.2f})" for way, run in ways),
        ]
        for row in rows
    ]
    return _table(("model", *(f"{way.value}, {run}" for way, run in ways)), lines)


def _paper(rows: Rows) -> str:
    lines = []
    for row in rows:
        cells = [row["model"]]
        for key in ("integrated_ms", "average_mb"):
            here, there = row[key], row[f"paper_{key}"]
            cells += [f"{here:.0f} \\| {there:.0f}", f"{here / there:.2f}"]
        lines.append(cells)
    return _table(("model", "integrated, ms", "ratio", "average, MB", "ratio"), lines)


def _replan(rows: Rows) -> str:
    lines = [
        [row["model"], *(f"{row['first_plan_ms'][one.value]:.0f} ms" for one in Objective)]
        for row in rows
    ]
    return _table(("model", *(one.value for one in Objective)), lines)
