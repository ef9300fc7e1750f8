"""Figures for users of the library: from arrays to axes, in one style.

Functions take plain arrays (NumPy, torch or lists), draw into ``ax`` if it is given and
into a figure of their own otherwise, and return the axes that they drew into. Figures
of one chapter alone are in ``notebooks/figures``, diagrams of the methods in
``book/figures``.
"""

from __future__ import annotations

from reidlib.plotting.charts import (
    plot_bars,
    plot_cmc,
    plot_curves,
    plot_distributions,
    plot_embedding,
    plot_trade_off,
)
from reidlib.plotting.clusters import (
    plot_clusters,
    plot_health,
    plot_refined_cluster,
    plot_sweep,
)
from reidlib.plotting.retrievals import plot_retrievals
from reidlib.plotting.style import COLOURS, MARKERS, use_style
from reidlib.plotting.tiles import plot_heat_maps, plot_images, plot_ranking

__all__ = [
    "COLOURS",
    "MARKERS",
    "plot_bars",
    "plot_clusters",
    "plot_cmc",
    "plot_curves",
    "plot_distributions",
    "plot_embedding",
    "plot_health",
    "plot_heat_maps",
    "plot_images",
    "plot_ranking",
    "plot_refined_cluster",
    "plot_retrievals",
    "plot_sweep",
    "plot_trade_off",
    "use_style",
]
