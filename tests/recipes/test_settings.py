"""Settings: their checks, the presets of every recipe, and their way to a file."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
from typing import Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
import torch

from reidlib.errors import ReIDError
from reidlib.recipes import RECIPES, aff_scl, baseline, calr, direct, supervised
from reidlib.recipes.settings import STEPS, TrainingConfig, restore


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_preset_is_valid_and_every_field_is_documented(name):
    module = RECIPES[name]
    assert {"quick", "ablation", "course", "paper"} <= set(module.PRESETS)
    for preset in module.PRESETS.values():
        assert type(preset) is module.Config
    sources = "".join(
        inspect.getsource(cls)
        for cls in module.Config.__mro__
        if dataclasses.is_dataclass(cls)
    )
    for field in dataclasses.fields(module.Config):
        line = sources.split(f"    {field.name}: ", 1)[1].split("\n")
        assert line[1].strip().startswith('"""'), f"{field.name} has no description"


@pytest.mark.parametrize("changes", [{"bn_splits": 2}, {"frozen_stages": 1}])
def test_what_only_training_reads_is_no_setting_of_direct_transfer(changes):
    with pytest.raises(ReIDError, match="has no influence in this recipe; leave it at"):
        direct.Config(**changes)


@pytest.mark.parametrize("preset", STEPS)
def test_methods_are_compared_at_equal_compute(preset):
    """The same images, as many of them, and the same frozen network."""
    names = ("epochs", "iterations", "num_labels", "backbone", "size", "frozen_stages")
    found = {
        tuple(getattr(recipe.PRESETS[preset], name) for name in names)
        for recipe in (baseline, calr, aff_scl, supervised)
    }
    assert len(found) == 1


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_settings_come_back_from_a_file_also_where_it_is_old(name):
    module = RECIPES[name]
    for preset in module.PRESETS.values():
        saved = json.loads(json.dumps(dataclasses.asdict(preset)))
        assert restore(module.Config, saved) == preset
        saved["gone"] = 3  # a setting of long ago
        del saved["seed"]  # one that is newer than the file, at its default
        assert restore(module.Config, saved) == preset


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"eps": 0.0}, "eps is 0.0"),
        ({"eps": 1.5}, "eps is 1.5"),
        ({"k1": 0}, "k1 is 0; it must be at least 1"),
        ({"k1": -3}, "k1 is -3; it must be at least 1"),
        ({"epochs": 0}, "epochs is 0"),
        ({"flip": 1.2}, "flip is 1.2"),
        ({"lr": 0.0}, "lr is 0.0"),
        ({"momentum": 2.0}, "momentum is 2.0"),
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"bn_splits": 3}, "in 3 equal chunks"),
        ({"precision": "fp8"}, "precision is 'fp8'"),
        ({"clustering": "optics"}, "clustering is 'optics'; choose from dbscan"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"backbone": "vgg"}, "backbone is 'vgg'; choose from resnet50"),
        ({"replacement": "never"}, "replacement is 'never'; choose from scarce"),
        ({"seed": -1}, "seed is -1"),
        ({"last_stride": 3}, "last_stride is 3; give 1 or 2"),
        ({"bn_splits": 256}, "batch norm needs two"),
        ({"num_labels": 1, "num_instances": 1}, "batch norm needs two"),
        ({"num_labels": 10**6, "num_instances": 10**6}, "is too large"),
        ({"k1": 2.5}, "k1 is 2.5; give a whole number"),
    ],
)
def test_settings_out_of_range_are_named(changes, message):
    with pytest.raises(ReIDError, match=message):
        baseline.Config(**changes)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_no_number_of_a_recipe_may_be_what_no_training_can_use(name):
    """NaN, infinite, huge or negative; settings of a stage included."""
    wrong = (math.nan, math.inf, -math.inf, 1e300, 10**400, -1, -0.5, "3", True)
    config = RECIPES[name].PRESETS["quick"]
    parts = {"": config}
    parts |= {f: v for f, v in vars(config).items() if dataclasses.is_dataclass(v)}
    for part in parts.values():
        for setting, kind in get_type_hints(type(part)).items():
            for value in wrong if kind in (int, float) else ():
                with pytest.raises(ReIDError, match=f"{setting} is") as error:
                    dataclasses.replace(part, **{setting: value})
                assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_setting_has_its_type(name):
    wrong = (None, "False", 3.5, math.nan, -1, [], np.array([1, 2]), object())
    fits = {bool: (bool,), str: (str,), int: (int,), float: (int, float)}
    config = RECIPES[name].PRESETS["quick"]
    parts = {"": config}
    parts |= {f: v for f, v in vars(config).items() if dataclasses.is_dataclass(v)}
    for part in parts.values():
        for setting, kind in get_type_hints(type(part)).items():
            if get_origin(kind) is Literal:
                allowed = ()
            else:
                allowed = fits.get(kind) or get_args(kind) or (kind,)
                allowed = tuple(k for k in allowed if get_origin(k) is not Literal)
            for value in wrong:
                if isinstance(value, allowed) and type(value) in allowed:
                    continue
                with pytest.raises(ReIDError, match=f"^{setting} is") as error:
                    dataclasses.replace(part, **{setting: value})
                assert "\n" not in str(error.value)


def test_numbers_of_numpy_become_those_of_python():
    config = baseline.Config(lr=np.float32(0.5), k1=np.int64(7), eps=np.float64(0.5))
    assert json.dumps(dataclasses.asdict(config))
    assert (config.lr, config.k1, config.eps) == (0.5, 7, 0.5)
    assert type(baseline.Config(lr=1).lr) is int  # as in the name of its result


@pytest.mark.parametrize(
    ("recipe", "read", "unread"),
    [
        ("qafm", {"alpha_loss": "none", "fixed_alpha": 0.3}, {"alpha_loss": "ratio"}),
        (
            "supervised",
            {"global_attention": "cam", "reduction": 8},
            {"global_attention": "none"},
        ),
        (
            "aff_scl",
            {"local_attention": "cam", "groups": 4},
            {"local_attention": "none"},
        ),
        ("aff_scl", {"loss": "classifier", "margin": 0.5}, {"loss": "symmetric"}),
        ("aff_scl", {"balance": "none"}, {"loss": "classifier"}),
        ("cals", {"noise": 0.2, "noise_kind": "camera"}, {"noise": 0.0}),
        ("calr", {"floor": 0.5}, {"refinement": "none"}),
    ],
)
def test_what_the_other_settings_leave_without_influence_is_refused(
    recipe, read, unread
):
    config = RECIPES[recipe].Config
    config(**read)
    with pytest.raises(ReIDError, match=r"has no influence (where|unless)"):
        config(**{**read, **unread})


def test_augmentation_follows_the_configuration():
    config = TrainingConfig(height=64, width=32, pad=2, flip=0.0)
    transform = config.augmentation()
    images = torch.zeros(2, 3, 64, 32, dtype=torch.uint8)
    assert transform(images, torch.Generator()).shape == (2, 3, 64, 32)
    fixed = TrainingConfig(height=64, width=32, pad=0, flip=1.0, erasing=0.0)
    image = torch.randint(256, (1, 3, 64, 32), dtype=torch.uint8)
    there = fixed.augmentation()(image, torch.Generator())
    back = fixed.augmentation()(image.flip(-1), torch.Generator())
    assert torch.equal(there.flip(-1), back)
