"""`python -m flashmem_lab` is `flashmem-lab`."""

import sys

from flashmem_lab.cli import main

sys.exit(main())
