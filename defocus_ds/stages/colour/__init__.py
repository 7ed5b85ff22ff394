"""Colour: match the blurred captures' colours to the sharp one's."""

from defocus_ds.stages.colour.match import ColourMap, match_colour

__all__ = ["ColourMap", "match_colour"]
