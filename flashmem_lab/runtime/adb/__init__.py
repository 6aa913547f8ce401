"""Runs programs on other machines: an agent in C over a pair of pipes, `adb shell`'s most often."""
