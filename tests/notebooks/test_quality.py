"""Perturbed images, scores of quality, areas under curves, alpha, and heat maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from figures.quality import (
    caption_of,
    match_maps,
    plot_alpha,
    plot_aurocs,
    plot_fixed,
    plot_perturbations,
    plot_planted,
    plot_probe,
    plot_published,
    published_scores,
)
from reidlib.evaluation import Auroc
from reidlib.models import build_backbone
from reidlib.models.fused import FusedNet, QualityEncoder
from reidlib.quality import PERTURBATIONS, perturb


def picture(seed: int = 0, height: int = 32, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (1, 3, height, width)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def test_all_34_are_drawn_under_their_family_and_with_their_amount():
    image = picture()
    views = perturb(image)[0]
    ax = plot_perturbations(image[0], views)
    texts = [text.get_text() for text in ax.texts]
    for one in PERTURBATIONS:
        assert texts.count(caption_of(one)) == 1
    for family in ("lighting: 4", "blur: 3", "noise: 3", "occlusion: 16"):
        assert family in texts
    assert "background: 8" in texts
    drawn = [np.asarray(one.get_array()) for one in ax.images]
    assert len(drawn) == 35
    assert (drawn[0] == image[0].permute(1, 2, 0).numpy()).all()
    order = [
        p
        for family in ("lighting", "blur", "noise", "occlusion", "background")
        for p, one in enumerate(PERTURBATIONS)
        if one.family == family
    ]
    for tile, place in zip(drawn[1:], order, strict=True):
        assert (tile == views[place].permute(1, 2, 0).numpy()).all()
    with pytest.raises(ValueError, match="3 views; give 34"):
        plot_perturbations(image[0], views[:3])


def test_features_are_seen_from_the_image_on_one_scale():
    rng = np.random.default_rng(0)
    images = torch.cat([picture(0), picture(1)])
    features = np.zeros((2, 35, 5))
    features[0, 1:, :2] = rng.normal(size=(34, 2))
    features[1, 1:, :2] = 3 * features[0, 1:, :2]
    features += 7  # where the image itself is does not matter
    figure = plot_probe(images, perturb(images), features, [1.0, 3.0])
    _, small, _, large = figure.axes
    assert small.get_title(loc="left") == "score 1.0"
    assert small.get_xlim() == large.get_xlim()
    for one, other in zip(small.collections[:5], large.collections[:5]):
        near, far = (np.asarray(c.get_offsets()) for c in (one, other))
        np.testing.assert_allclose(3 * near, far, atol=1e-9)
    total = sum(len(c.get_offsets()) for c in small.collections)
    assert total == 35
    # Two directions hold all that was planted in two: lengths are kept.
    lengths = np.concatenate(
        [np.linalg.norm(c.get_offsets(), axis=1) for c in small.collections[:5]]
    )
    expected = np.linalg.norm(features[0, 1:] - features[0, :1], axis=1)
    np.testing.assert_allclose(np.sort(lengths), np.sort(expected))


def test_areas_have_a_row_a_score_and_a_colour_a_network():
    found = {
        "one": {"blur": Auroc(0.6, 0.5, 0.7), "chance": Auroc(0.5, 0.4, 0.6)},
        "two": {"blur": Auroc(0.8, 0.7, 0.9), "chance": Auroc(0.5, np.nan, np.nan)},
    }
    ax = plot_aurocs(found)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["blur", "chance"]
    assert [one.get_label() for one in ax.containers] == ["one", "two"]
    assert list(ax.containers[1].lines[0].get_xdata()) == [0.8, 0.5]


def test_the_authors_scores_are_those_of_the_table():
    left, count = published_scores()
    assert count.sum() == 29419
    assert left[count.argmax()] == 11.1
    assert np.diff(left) == pytest.approx(0.1)
    ours = {"pairs": np.array([2.0, 2.5, 3.0]), "anchor": np.array([1.0, 1.5])}
    first, second, both = plot_published(ours).axes
    assert first.get_title(loc="left") == "the authors': 29,419 images"
    heights = [patch.get_height() for patch in first.patches]
    assert heights == list(count)
    assert [patch.get_label() for patch in second.patches] == list(ours)
    for patch, other, values in zip(second.patches, both.patches, ours.values()):
        for drawn, scale in ((patch, 1), (other, values.mean())):
            corners = drawn.get_xy()[:, 0] * scale
            assert corners.min() == pytest.approx(values.min())
            assert corners.max() == pytest.approx(values.max())
        assert patch.get_xy()[:, 1].max() == 1  # one image in a bar
    x, y = both.lines[0].get_data()
    assert np.trapezoid(y, x) == pytest.approx(1, abs=0.01)


def test_planted_losses_are_drawn_in_the_order_of_the_score():
    worlds = {"a": ([0.9, 0.1], {"ratio": [0.8, 0.2], "linear": [1, 0]})}
    (ax,) = plot_planted([1.0, -1.0], worlds).axes
    ratio, linear = ax.lines
    assert list(ratio.get_xdata()) == [-1, 1]
    assert list(ratio.get_ydata()) == [0.2, 0.8]
    assert list(linear.get_ydata()) == [0, 1]


def test_alpha_is_counted_and_fitted():
    scores, alpha = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.4, 0.3, 0.35, 0.1])
    first, second = plot_alpha(scores, alpha)
    assert sum(patch.get_height() for patch in first.patches) == 4
    assert first.lines[0].get_xdata()[0] == 0.375
    slope = np.diff(second.lines[0].get_ydata()) / np.diff(second.lines[0].get_xdata())
    assert slope == pytest.approx(np.polyfit(scores, alpha, 1)[0])
    assert second.get_title(loc="left") == f"r = {np.corrcoef(scores, alpha)[0, 1]:.2f}"


def test_levels_stand_beside_the_fixed_weights():
    ax = plot_fixed({0.0: 10.0, 0.5: 20.0}, {"learned": 19.0, "oracle": 25.0})
    curve, learned, oracle = ax.lines
    assert list(curve.get_ydata()) == [10, 20]
    assert set(learned.get_ydata()) == {19}
    assert set(oracle.get_ydata()) == {25}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    quality = QualityEncoder(build_backbone("tiny", pretrained=False))
    parts = {"features": 8, "width": 8, "decoder_channels": 6, "attribute_hidden": 4}
    sizes = [2, 3]
    steps = {"memory_steps": 2, "fused_features": 8, "pretrained": False}
    return FusedNet("tiny", sizes, quality, **parts, **steps).eval()


def test_what_places_add_is_the_similarity_but_for_a_constant(model):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(3, 3, 64, 64, generator=generator)
    wanted = torch.randn(3, 8, generator=generator)
    maps = match_maps(model, images, wanted, 0.4)
    # Once more, without gradients: the branches written out from their maps on.
    branch, other = model.appearance, model.attributes

    def dot(x, states):
        v_a = branch.neck(branch.project(x.mean(dim=(2, 3))))
        pooled = states.mean(dim=(3, 4))
        flat = other.neck(other.project(pooled.flatten(0, 1)))
        v_s = flat.unflatten(0, pooled.shape[:2]).mean(dim=1)
        fused = model.fuse(v_a, v_s, 0.4)
        return fused, (fused * F.normalize(wanted)).sum(dim=1)

    with torch.no_grad():
        fine, last = model.encoder.pyramid(images)
        x = branch.decoder(fine, branch.pyramid(last))
        states = other.memory(other.attention(model.attribute_encoder(images)), 2)
        fused, whole = dot(x, states)
        length = fused.norm(dim=1)
        for name, kept in (
            ("appearance", (0 * x, states)),
            ("attributes", (x, 0 * states)),
        ):
            lost = (whole - dot(*kept)[1]) / length
            torch.testing.assert_close(maps[name].sum(dim=(1, 2)), lost)
        # One place by itself.
        less = x.clone()
        less[:, :, 1, 2] = 0
        lost = (whole - dot(less, states)[1]) / length
        torch.testing.assert_close(maps["appearance"][:, 1, 2], lost)


def test_a_branch_without_weight_adds_nothing(model):
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = model.fuse(*(torch.ones(2, 8) for _ in range(2)), 0.5)
    maps = match_maps(model, images, wanted, 0.0)  # all weight on the appearance
    assert maps["attributes"].eq(0).all()
    assert maps["appearance"].ne(0).any()
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
