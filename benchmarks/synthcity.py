"""Measure how fast SynthCity draws: images per second of one core, stage by stage.

Run from the repository's root::

    python benchmarks/synthcity.py [--images 400] [--size course]
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from reidlib.synthcity import renderer, world, writer

STAGES = {
    "clothes": (world, "make_wardrobe"),
    "pose": (world, "pose"),
    "background": (world, "cut_scene"),
    "people": (world, "paint_figure"),
    "occluder": (world, "paint_occluder"),
    "reduction": (world, "reduce"),
    "camera": (world, "develop"),
    "jpeg": (renderer, "encode"),
}


def timed(
    function: Callable[..., Any], stage: str, seconds: dict
) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        start = time.process_time()
        result = function(*args, **options)
        seconds[stage] += time.process_time() - start
        return result

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", default="course")
    options = parser.parse_args()
    city = world.plan_world(options.size)
    # Whole chunks as a worker gets them: all images of a person, one after another.
    chunks = []
    count = 0
    for chunk in writer._chunks(city.shots):
        chunks.append(chunk)
        count += len(chunk)
        if count >= options.images:
            break
    start = time.process_time()
    scenes = [camera.scene_image for camera in city.cameras]
    preparation = time.process_time() - start
    seconds: dict[str, float] = defaultdict(float)
    for stage, (module, name) in STAGES.items():
        setattr(module, name, timed(getattr(module, name), stage, seconds))
    start = time.process_time()
    for shot in (shot for chunk in chunks for shot in chunk):
        pixels = world.draw_shot(city, shot)
        renderer.encode(pixels, city.cameras[shot.camera].jpeg)
    total = time.process_time() - start
    print(f"{len(scenes)} scenes, once per process: {1000 * preparation:.0f} ms")
    print(f"{count} images of 128 x 64: {count / total:.0f} images per second and core")
    seconds["planning and the rest"] = total - sum(seconds.values())
    for stage, spent in sorted(seconds.items(), key=lambda entry: -entry[1]):
        print(f"  {stage:22s} {1000 * spent / count:6.2f} ms  {spent / total:6.1%}")


if __name__ == "__main__":
    main()
