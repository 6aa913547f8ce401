"""onnxruntime from nothing to its first output.

`python -P first_run.py MODEL THREADS NAME=FILE...` is a script that imports nothing of this
package, as somebody who only knows onnxruntime would write it, so that a bench can time the
process. Its session has the default settings but for the number of threads. It leaves without
tearing the session down, since nobody would wait for that.
"""

from __future__ import annotations

import os
import sys

import numpy as np
import onnxruntime


def main(model: str, threads: str, *inputs: str) -> None:
    """Creates a session, runs it once and prints how many outputs there are."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    arrays = {name: np.load(file) for name, _, file in (given.partition("=") for given in inputs)}
    print(len(session.run(None, arrays)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
