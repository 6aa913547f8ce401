"""Runs programs on other machines: an agent in C over a pair of pipes, `adb shell`'s most often."""

from flashmem_lab.runtime.adb.device import Phone, list_phones, open_phone, open_phone_runtime
from flashmem_lab.runtime.adb.watch import Watch

__all__ = ["Phone", "Watch", "list_phones", "open_phone", "open_phone_runtime"]
