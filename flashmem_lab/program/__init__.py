"""Plan -> Program: packed weights, lanes of commands, and the bundle that carries both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flashmem_lab.lazy import lazily

if TYPE_CHECKING:
    from flashmem_lab.program.build import build_program
    from flashmem_lab.program.check import check_program
    from flashmem_lab.program.codec import is_bundle, read_bundle, write_bundle
    from flashmem_lab.program.pack import pack_weights
    from flashmem_lab.program.packed import Packed, check_rows, discard, verify
    from flashmem_lab.program.render import kernels_digest
else:
    __getattr__ = lazily(
        __name__,
        {
            "build": ("build_program",),
            "check": ("check_program",),
            "codec": (
                "is_bundle",
                "read_bundle",
                "write_bundle",
            ),
            "pack": ("pack_weights",),
            "packed": ("Packed", "check_rows", "discard", "verify"),
            "render": ("kernels_digest",),
        },
    )

__all__ = [
    "Packed",
    "build_program",
    "check_program",
    "check_rows",
    "discard",
    "is_bundle",
    "kernels_digest",
    "pack_weights",
    "read_bundle",
    "verify",
    "write_bundle",
]
