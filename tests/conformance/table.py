"""The conformance table: python -m tests.conformance.table docs/operators.md [DEVICE]

Runs ONNX's node tests on a device and writes the table between the marks of the file.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

from flashmem_lab.runtime.opencl import open_runtime
from tests.conformance.cases import Verdict, run_cases

BEGIN, END = "<!-- conformance: begin -->", "<!-- conformance: end -->"
RESULTS = ("passed", "host", "refused")


def table(verdicts: Iterable[Verdict]) -> str:
    """Markdown: cases by operator and result, and why some were refused."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, set[str]] = defaultdict(set)
    for verdict in verdicts:
        counts[verdict.operator][verdict.result] += 1
        if verdict.why:
            reasons[verdict.operator].add(_short(verdict.why))
    total = sum(counts.values(), Counter())
    rows = [("Operator", *RESULTS, "refused because"), ("---", "--:", "--:", "--:", "---")]
    rows += [
        (name, *(str(found[result] or "") for result in RESULTS), "; ".join(sorted(reasons[name])))
        for name, found in sorted(counts.items())
    ]
    rows.append(("**all**", *(f"**{total[result]}**" for result in RESULTS), ""))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _short(why: str) -> str:
    """The reason without the names and figures of one case."""
    why = re.sub(r"^node '[^']*' \(\w+\)( is not valid)?: ", "", why)
    why = re.sub(r"^(input|output|weight|value|tensor) '[^']*':? (has )?", r"\1 of ", why)
    why = re.sub(r" \(.*", "", why)
    return re.sub(r"\s+", " ", why).replace("|", "/")


def between(text: str) -> str:
    """What stands between the marks of a document."""
    return text.split(BEGIN)[1].split(END)[0].strip()


def main(file: str, device: str = "ocl:0") -> None:
    """Writes the table of `device` into `file`."""
    with tempfile.TemporaryDirectory() as folder, open_runtime(device) as runtime:
        made = table(run_cases(runtime, Path(folder)))
    path = Path(file)
    text = path.read_text()
    path.write_text(text.replace(between(text), made))


if __name__ == "__main__":
    main(*sys.argv[1:])
