"""Export: the crops of a dataset or a release, in the layouts that training code reads."""

from defocus_ds.dataset.export.make import ExportReport, export

__all__ = ["ExportReport", "export"]
