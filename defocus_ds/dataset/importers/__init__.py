"""Crops from image trees that others made: an importer lists pairs, one writer cuts them."""

from defocus_ds.dataset.importers.listing import ImportOptions, Listing, PairFiles
from defocus_ds.dataset.importers.make import IMPORTERS, ImportReport, import_images

__all__ = [
    "IMPORTERS",
    "ImportOptions",
    "ImportReport",
    "Listing",
    "PairFiles",
    "import_images",
]
