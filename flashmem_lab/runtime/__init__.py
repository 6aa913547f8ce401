"""Runs programs: on paper, on an OpenCL device of this machine."""
