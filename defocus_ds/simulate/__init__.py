"""Shoots with known truth: scene, lens, sensor and camera file, forward."""

from defocus_ds.simulate.shoot import simulate

__all__ = ["simulate"]
