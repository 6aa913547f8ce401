"""What the FlashMem paper measured on a OnePlus 12 (Adreno 750, fp16, batch 1), by zoo model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """One row of the paper's tables of latency and memory.

    Attributes:
        integrated_ms: load, transform and one inference, from cold.
        average_mb: memory, averaged over that time, MB.
    """

    integrated_ms: float
    average_mb: float


MEASURED = {
    "gptneo-small": Measured(577, 260),
    "gptneo-1.3b": Measured(3086, 554),
    "gptneo-2.7b": Measured(7567, 1132),
    "resnet50": Measured(473, 83),
    "sam2": Measured(1267, 150),
    "vit": Measured(347, 83),
    "deepvit": Measured(785, 165),
    "sd-unet": Measured(3212, 838),
    "whisper-medium": Measured(1565, 240),
    "depth-anything-small": Measured(496, 86),
    "depth-anything-large": Measured(1382, 246),
}
"""arXiv 2602.15379, evaluation."""


SOLVED = {
    "gptneo-small": "45 s, OPTIMAL",
    "gptneo-1.3b": "121 s, FEASIBLE",
    "gptneo-2.7b": "121 s, FEASIBLE",
    "llama2-13b": "125 s, FEASIBLE",
    "llama2-70b": "136 s, FEASIBLE",
}
"""The same, solve time of LC-OPG with CP-SAT on 128 threads, limit 150 s."""
