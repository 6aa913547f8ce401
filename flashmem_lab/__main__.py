"""`python -m flashmem_lab` is `flashmem-lab`."""

from flashmem_lab.cli import process

process()
