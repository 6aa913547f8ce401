"""Runs in a child process, so that a driver that crashes or hangs takes nothing else with it.

`Isolated` has the functions of `flashmem_lab.workflow`. What only reads files and plans stays in
the caller's process; everything that loads a driver is done in one child, which stays warm from
run to run and is replaced when it dies.
"""

from flashmem_lab.worker.engine import Isolated, isolated

__all__ = ["Isolated", "isolated"]
