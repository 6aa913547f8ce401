"""Runs in a child process, so that a driver that crashes or hangs takes nothing else with it.

`Isolated` has the functions of `flashmem_lab.workflow`. Everything that loads a driver is done in
one child, which stays warm from run to run and is replaced when it dies. Opening, lowering and
solving are done in a second one, because they would keep the caller's interpreter to themselves.
Only quick plans are made in the caller's process: the way to a child would take as long.
"""

from flashmem_lab.worker.engine import Isolated, isolated

__all__ = ["Isolated", "isolated"]
