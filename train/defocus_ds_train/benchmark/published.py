"""The figures that MMSP 2024 published, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from defocus_ds.errors import InputError

__all__ = ["CITATION", "TABLES", "PublishedRow", "PublishedTable", "published_table"]

CITATION = (
    '"A Sharpness Based Loss Function for Removing Out-of-Focus Blur", IEEE International '
    "Workshop on Multimedia Signal Processing (MMSP), 2024"
)


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One method's figures; None where the table has none.

    ``lpips`` stands in our column lpips-vgg: the paper does not name the network behind it, and
    its own output images give these values with VGG-16 only (inferred).
    """

    name: str
    psnr: float
    ssim: float
    q: float
    lpips: float
    seconds: float | None = None

    def value(self, metric: str) -> float | None:
        """The figure that belongs beside our metric of this name."""
        found = {"psnr": self.psnr, "ssim": self.ssim, "q": self.q, "lpips-vgg": self.lpips}
        return found.get(metric)


@dataclass(frozen=True, slots=True)
class PublishedTable:
    """One table: what it was measured on, and its rows by name."""

    name: str
    images: str
    rows: Mapping[str, PublishedRow]
    aliases: Mapping[str, str]

    def row(self, *names: str | None) -> PublishedRow | None:
        """The row of the first of these names that it has, in any case of the letters."""
        known = {key.casefold(): key for key in (*self.rows, *self.aliases)}
        for name in names:
            if name is not None and (key := known.get(name.casefold())) is not None:
                return self.rows[self.aliases.get(key, key)]
        return None


def published_table(name: str) -> PublishedTable:
    """A table by its Roman numeral.

    Raises:
        InputError: another name.

    >>> published_table("I").row("synthetic-q-0.05").psnr
    34.844
    """
    if name not in TABLES:
        raise InputError(f"table {name!r} of the paper; known: {', '.join(TABLES)}.")
    return TABLES[name]


def _table(
    name: str,
    images: str,
    rows: tuple[PublishedRow, ...],
    aliases: Mapping[str, str],
) -> PublishedTable:
    by_name = MappingProxyType({row.name: row for row in rows})
    return PublishedTable(name, images, by_name, MappingProxyType(dict(aliases)))


# aliases: our recipes and baselines -> the paper's rows
TABLES: Mapping[str, PublishedTable] = MappingProxyType(
    {
        "I": _table(
            "I",
            "24 Kodak crops, 5x5 average blur",
            (
                PublishedRow("beta 0", 35.069, 0.944, 0.153, 0.127),
                PublishedRow("beta 0.001", 35.102, 0.945, 0.152, 0.117),
                PublishedRow("beta 0.01", 35.101, 0.945, 0.154, 0.117),
                PublishedRow("beta 0.05", 34.844, 0.945, 0.166, 0.122),
                PublishedRow("beta 0.1", 33.641, 0.940, 0.183, 0.127),
            ),
            {
                "synthetic-l1": "beta 0",
                "synthetic-q-0.001": "beta 0.001",
                "synthetic-q-0.01": "beta 0.01",
                "synthetic-q-0.05": "beta 0.05",
                "synthetic-q-0.1": "beta 0.1",
            },
        ),
        "II": _table(
            "II",
            "Kodak and BSD500 test crops, 5x5 average blur",
            (
                PublishedRow("DDNet", 29.559, 0.842, 0.130, 0.271, 0.019),
                PublishedRow("XY-Deblur", 38.288, 0.970, 0.147, 0.071, 0.019),
                PublishedRow("aL", 29.362, 0.882, 0.136, 0.229, 0.009),
                PublishedRow("mLM", 37.282, 0.971, 0.135, 0.059, 0.003),
                PublishedRow("mRL", 29.658, 0.891, 0.134, 0.212, 0.012),
                PublishedRow("RED-FP", 33.137, 0.911, 0.154, 0.181, 47.8),
                PublishedRow("RED-SDM", 32.835, 0.909, 0.151, 0.181, 328.259),
                PublishedRow("U-Net", 34.875, 0.946, 0.149, 0.116, 0.052),
                PublishedRow("U-Net+Q", 34.890, 0.947, 0.150, 0.107, 0.063),
            ),
            {
                "red-sd": "RED-SDM",
                "synthetic-l1": "U-Net",
                "synthetic-q-0.01": "U-Net+Q",
            },
        ),
        "III": _table(
            "III",
            "188 real crops of the low level",
            (
                PublishedRow("XY-Deblur", 28.131, 0.784, 0.082, 0.668, 0.012),
                PublishedRow("IFAN", 23.728, 0.668, 0.044, 0.408, 0.022),
                PublishedRow("Restormer", 22.594, 0.650, 0.042, 0.418, 0.066),
                PublishedRow("U-Net", 28.788, 0.792, 0.079, 0.450, 0.040),
                PublishedRow("U-Net+Q", 28.728, 0.792, 0.084, 0.447, 0.038),
            ),
            {"real-l1": "U-Net", "real-q": "U-Net+Q"},
        ),
    }
)
