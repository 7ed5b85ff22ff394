"""The figures of a pair that the page shows in its table, its scenes and its distributions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from defocus_ds.report.pairs import PairView

__all__ = ["FIGURES", "Figure", "figures_of"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number per pair.

    Attributes:
        name: as it is shown, with its unit.
        attribute: of `PairView`; None there where the figure is unknown.
        digits: behind the point.
        meaning: one phrase for who does not know the name.
        spread: whether its distribution is drawn.
        of_crops: whether it is known only of pairs that have crops.
    """

    name: str
    attribute: str
    digits: int
    meaning: str
    spread: bool = False
    of_crops: bool = False

    def of(self, pair: PairView) -> float | None:
        """The pair's value, None if it has none."""
        value = getattr(pair, self.attribute)
        return None if value is None else float(value)

    def text(self, pair: PairView) -> str | None:
        """The pair's value as it is shown."""
        value = self.of(pair)
        return None if value is None else f"{value:.{self.digits}f}"


FIGURES = (
    Figure(
        "Residual px",
        "residual_px",
        3,
        "estimated mean misalignment that remains, pixels; the arrows show where",
        spread=True,
    ),
    Figure(
        "Blur radius px",
        "blur_radius_px",
        2,
        "radius of the disk that blurs the sharp image into this one",
        spread=True,
    ),
    Figure(
        "NCC",
        "ncc",
        4,
        "correlation of the aligned capture with the sharp one blurred by that disk",
    ),
    Figure(
        "ΔE before",
        "colour_before",
        2,
        "mean CIEDE2000 of the captures, locally averaged and blur-matched, as shot",
    ),
    Figure("ΔE after", "colour_after", 2, "the same after colour matching", spread=True),
    Figure(
        "Q sharp",
        "q_sharp",
        3,
        "mean reported Q of the pair's sharp crops",
        spread=True,
        of_crops=True,
    ),
    Figure(
        "Q blurred",
        "q_blurred",
        3,
        "mean reported Q of its blurred crops",
        spread=True,
        of_crops=True,
    ),
)


def figures_of(pairs: Sequence[PairView]) -> tuple[Figure, ...]:
    """The figures to show: those of crops only if some pair has crops."""
    return tuple(
        figure
        for figure in FIGURES
        if not figure.of_crops or any(figure.of(pair) is not None for pair in pairs)
    )
