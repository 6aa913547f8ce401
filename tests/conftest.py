"""What holds for all tests."""

from hypothesis import settings

# An example takes as long as it takes: a busy machine is no defect.
settings.register_profile("flashmem", deadline=None)
settings.load_profile("flashmem")
