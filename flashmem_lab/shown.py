"""How a value shows itself in a notebook and in a terminal: a title, a line, rows of words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

Rows = Sequence[tuple[str, str]]


def mimebundle(title: str, line: str, rows: Rows) -> dict[str, str]:
    """What `_repr_mimebundle_` returns.

    Args:
        title: what it is, such as "Plan of resnet50".
        line: in one sentence.
        rows: further facts, name and words; those without words are left out.
    """
    told = [(name, words) for name, words in rows if words]
    width = max((len(name) for name, _ in told), default=0)
    plain = [title, f"  {line}", *(f"  {name:<{width}}  {words}" for name, words in told)]
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'>{escape(words)}</td></tr>"
        for name, words in told
    )
    return {
        "text/plain": "\n".join(plain),
        "text/html": (
            f"<div><b>{escape(title)}</b><div>{escape(line)}</div><table>{body}</table></div>"
        ),
    }
