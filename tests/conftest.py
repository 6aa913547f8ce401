"""What holds for all tests."""

import os

from hypothesis import settings

# An example takes as long as it takes: a busy machine is no defect.
settings.register_profile("flashmem", deadline=None)
settings.load_profile("flashmem")

# No test starts an adb server on the machine of whoever runs it, or asks their phones; those of
# tests/remote have a server of their own.
os.environ["FLASHMEM_LAB_ADB"] = "none"
