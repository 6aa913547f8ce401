"""What people look at in a notebook."""

from flashmem_lab.views.graph import GraphView
from flashmem_lab.views.workbench import Workbench

__all__ = ["GraphView", "Workbench"]
