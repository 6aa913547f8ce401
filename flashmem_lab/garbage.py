"""Python's garbage collector, kept from what must not wait for it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage is collected meanwhile; it is afterwards, when nobody waits.

    Going through all objects of a model and of a notebook takes longer than a plan (60 ms with
    GPT-Neo-2.7B).
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
