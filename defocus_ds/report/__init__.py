"""The review page: pairs as pairs, with what was measured of each."""

from defocus_ds.report.review import report

__all__ = ["report"]
