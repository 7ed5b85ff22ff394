"""Registration: where each pixel of the sharp capture lies in the blurred one."""

from defocus_ds.stages.register.alignment import Alignment, ResidualGrid
from defocus_ds.stages.register.stage import register

__all__ = ["Alignment", "ResidualGrid", "register"]
