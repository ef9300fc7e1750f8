"""SynthCity: a synthetic city with drawn pedestrians instead of real people.

Five modules draw a picture, in this order: :mod:`identities` draws the traits of
people, :mod:`textures` paints their clothes, :mod:`body` puts them in a pose,
:mod:`cameras` draws cameras and their scenes, :mod:`renderer` paints the picture.
:mod:`world` plans a data set and :mod:`writer` writes it in Market-1501's layout;
:mod:`gallery` shows a world, and :mod:`guards` has features that must score low in it.
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
    shot_strength,
    split_sizes,
)
from reidlib.synthcity.writer import (
    DRAWING,
    check_city,
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
    "check_city",
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
    "shot_strength",
    "split_sizes",
    "synthcity_path",
    "turning_grid",
]
