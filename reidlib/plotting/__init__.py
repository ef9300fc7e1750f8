"""Every figure of the book: from arrays to axes, one style.

Functions take plain arrays (NumPy, torch or lists), draw into ``ax`` where one is given
and into a figure of their own otherwise, and return the axes that they drew.
"""

from __future__ import annotations

from reidlib.plotting.alignment import (
    plot_beta_sweep,
    plot_camera_losses,
    plot_domains,
)
from reidlib.plotting.attention import (
    plot_focus,
    plot_focus_maps,
    plot_reweighting,
    plot_weight_ranges,
)
from reidlib.plotting.backbones import plot_curves, plot_heat_maps
from reidlib.plotting.charts import (
    plot_bars,
    plot_cmc,
    plot_distributions,
    plot_embedding,
    plot_health,
)
from reidlib.plotting.clusters import plot_cluster_map, plot_clusters, plot_sweep
from reidlib.plotting.diagrams import DIAGRAMS, plot_diagram, plot_sightings
from reidlib.plotting.interactive import explore, make_explorer
from reidlib.plotting.memories import plot_memories, plot_memory_plane
from reidlib.plotting.refinement import (
    plot_cluster_figures,
    plot_dose_response,
    plot_refined_cluster,
    plot_refinement_epochs,
    plot_schedules,
)
from reidlib.plotting.style import COLOURS, MARKERS, use_style
from reidlib.plotting.tiles import plot_images, plot_ranking
from reidlib.plotting.verification import (
    plot_camera_pairs,
    plot_identification,
    plot_trade_off,
)

__all__ = [
    "COLOURS",
    "DIAGRAMS",
    "MARKERS",
    "explore",
    "make_explorer",
    "plot_bars",
    "plot_beta_sweep",
    "plot_camera_losses",
    "plot_camera_pairs",
    "plot_cluster_figures",
    "plot_cluster_map",
    "plot_clusters",
    "plot_cmc",
    "plot_curves",
    "plot_diagram",
    "plot_distributions",
    "plot_domains",
    "plot_dose_response",
    "plot_embedding",
    "plot_focus",
    "plot_focus_maps",
    "plot_health",
    "plot_heat_maps",
    "plot_identification",
    "plot_images",
    "plot_memories",
    "plot_memory_plane",
    "plot_ranking",
    "plot_refined_cluster",
    "plot_refinement_epochs",
    "plot_reweighting",
    "plot_schedules",
    "plot_sightings",
    "plot_sweep",
    "plot_trade_off",
    "plot_weight_ranges",
    "use_style",
]
