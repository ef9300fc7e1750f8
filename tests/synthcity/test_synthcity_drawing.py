"""Pictures change only with the version of the drawing."""

from __future__ import annotations

import json

import numpy as np
from golden import drawing


def test_a_dozen_shots_are_drawn_as_their_version_says():
    then, now = json.loads(drawing.FILE.read_text()), drawing.shots()
    assert len(then["shots"]) == 12
    assert then["shots"].keys() == now["shots"].keys()
    packages = ("numpy", "pillow")
    exact = all(then[name] == now[name] for name in packages)
    for name, shot in then["shots"].items():
        if exact:
            assert shot["sha256"] == now["shots"][name]["sha256"], name
        off = np.subtract(shot["colours"], now["shots"][name]["colours"])
        assert np.abs(off).max() <= 2, name
