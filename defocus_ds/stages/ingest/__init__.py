"""Ingest: the captures of a shoot, grouped into brackets, with every complaint at once."""

from defocus_ds.stages.ingest.captures import Progress
from defocus_ds.stages.ingest.header import Header, read_header
from defocus_ds.stages.ingest.shoot import Survey, scan, survey

__all__ = ["Header", "Progress", "Survey", "read_header", "scan", "survey"]
