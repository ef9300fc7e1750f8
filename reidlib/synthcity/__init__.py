"""SynthCity: a synthetic city that draws pedestrians, so that none real is needed.

Five modules, in the order in which a picture comes about: :mod:`identities` invents
people, :mod:`textures` paints their clothes, :mod:`body` puts them in a pose,
:mod:`cameras` invents cameras and what they look at, :mod:`renderer` paints.
:mod:`world` plans a data set and :mod:`writer` writes it in Market-1501's layout;
:mod:`gallery` shows a world, and :mod:`guards` holds the features that must fail in it.
"""

from __future__ import annotations

from reidlib.synthcity.cameras import Camera
from reidlib.synthcity.dials import Dials
from reidlib.synthcity.gallery import dial_grid, people_grid, turning_grid
from reidlib.synthcity.guards import colour_histogram, raw_pixels
from reidlib.synthcity.identities import ATTRIBUTES, Identity
from reidlib.synthcity.world import (
    SIZES,
    Shot,
    Size,
    World,
    draw_frame,
    draw_person,
    draw_shot,
    plan_world,
)
from reidlib.synthcity.writer import (
    DRAWING,
    ensure_synthcity,
    make_synthcity,
    synthcity_path,
)

__all__ = [
    "ATTRIBUTES",
    "DRAWING",
    "SIZES",
    "Camera",
    "Dials",
    "Identity",
    "Shot",
    "Size",
    "World",
    "colour_histogram",
    "dial_grid",
    "draw_frame",
    "draw_person",
    "draw_shot",
    "ensure_synthcity",
    "make_synthcity",
    "people_grid",
    "plan_world",
    "raw_pixels",
    "synthcity_path",
    "turning_grid",
]
