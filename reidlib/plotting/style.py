"""The style of all figures."""

from __future__ import annotations

import matplotlib as mpl
from matplotlib.rcsetup import cycler

COLOURS = (
    "#0072B2",  # blue
    "#E69F00",  # orange
    "#009E73",  # green
    "#CC79A7",  # purple
    "#56B4E9",  # sky
    "#D55E00",  # vermillion
    "#5A5A5A",  # grey, for Okabe and Ito's black, which is the colour of the text
    "#B8A800",  # their yellow, darkened until it can be seen on paper
)
"""Okabe and Ito's palette, which colour-blind readers can tell apart, adapted."""

MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<")
"""One marker per colour, so that no figure depends on colour alone."""

HIT, MISS, QUIET = "#009E73", "#D55E00", "#B4B4B0"
INK, PAPER, GRID = "#262626", "#FAFAF7", "#DEDED8"


def use_style() -> None:
    """Set matplotlib's defaults to the style of the book.

    The background is opaque and light and the text is dark, so that a figure is
    readable on a light and on a dark page.

    Example:
        >>> import matplotlib as mpl
        >>> use_style()
        >>> mpl.rcParams["axes.prop_cycle"].by_key()["color"][0]
        '#0072B2'
    """
    mpl.rcParams.update(
        {
            "figure.figsize": (6.4, 3.6),
            "figure.dpi": 100,
            "figure.facecolor": PAPER,
            "savefig.facecolor": PAPER,
            "savefig.bbox": "tight",
            "savefig.pad_inches": 0.12,
            "axes.facecolor": PAPER,
            "axes.edgecolor": INK,
            "axes.labelcolor": INK,
            "axes.titlesize": 10.5,
            "axes.titlelocation": "left",
            "axes.labelsize": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "xtick.labelsize": 8.5,
            "ytick.labelsize": 8.5,
            "legend.fontsize": 8.5,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
            # The only fonts that matplotlib ships, ✓ and ✗ among its glyphs.
            "font.family": "DejaVu Sans",
            "axes.prop_cycle": cycler(color=COLOURS),
            # Equal input gives an equal file.
            "svg.hashsalt": "reidlib",
        }
    )
