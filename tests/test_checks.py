from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch

from reidlib import checks, clustering, evaluation
from reidlib.checks import (
    LARGEST_ID,
    check_batch,
    check_camids,
    check_choice,
    check_classes,
    check_count,
    check_feature_pair,
    check_features,
    check_ids,
    check_labels,
    check_num_clusters,
    check_number,
    check_positive,
    check_same_length,
    check_seed,
    check_truth,
    whole_number,
)
from reidlib.errors import ReIDError


def refused(message, check, *arguments, **options):
    with pytest.raises(ReIDError, match=message) as raised:
        check(*arguments, **options)
    assert "\n" not in str(raised.value)


def test_features_become_float32_tensors_without_a_graph():
    for features in (np.eye(3), torch.eye(3).half(), torch.eye(3).requires_grad_()):
        checked = check_features(features, "here", normalised=True)
        assert torch.equal(checked, torch.eye(3))
        assert checked.dtype == torch.float32
        assert not checked.requires_grad


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ([[1.0, 0.0]], "^here: vectors are a list; give a tensor"),
        (torch.ones(4), r"^here: vectors have shape \(4,\); give \(N, D\)"),
        (torch.ones(0, 4), "give at least one image and one dimension"),
        (torch.ones(4, 0), "give at least one image and one dimension"),
        (torch.tensor([[1.0], [np.nan], [np.inf]]), "of 2 of 3 images .* in row 1"),
        (torch.tensor([[1.0], [3.0]]), "1 of 2 vectors .* first row 1 of length 3; "),
    ],
)
def test_features_of_another_kind_are_refused(features, message):
    refused(message, check_features, features, "here", normalised=True, name="vectors")


def test_only_distances_that_need_it_ask_for_normalised_features():
    features = 3 * torch.eye(2)
    assert torch.equal(check_features(features, "here", normalised=False), features)


def test_a_pair_of_features_has_one_number_of_dimensions():
    query, gallery = check_feature_pair(np.ones((2, 3)), torch.ones(4, 3), "here")
    assert query.shape == (2, 3)
    assert gallery.shape == (4, 3)
    refused(
        "3 dimensions and gallery features 2",
        check_feature_pair,
        query,
        gallery[:, :2],
        "here",
    )
    refused(
        "gallery features have shape", check_feature_pair, query, gallery[0], "here"
    )


def odd_arrays(values):
    """Arrays and tensors of the same numbers, stored in other ways."""
    values = np.asarray(values, dtype=np.float32)
    frozen = values.copy()
    frozen.flags.writeable = False
    padded = np.zeros(values.shape, dtype=[("flag", "i1"), ("value", "f4")])
    padded["value"] = values
    yield values[::-1].copy()[::-1]
    yield values.astype(values.dtype.newbyteorder())
    yield values.astype(np.longdouble)
    yield values.astype(np.float16)
    yield frozen
    yield padded["value"]
    yield values.astype(object)
    yield torch.tensor(values).bfloat16()
    yield torch.tensor(values).to_sparse()
    with torch.inference_mode():
        yield torch.tensor(values)


def test_arrays_come_as_people_have_them():
    eye = np.eye(3)
    for features in odd_arrays(eye):
        if features.dtype != object:
            checked = check_features(features, "here", normalised=True)
            assert checked.dtype == torch.float32
            assert checked.tolist() == eye.tolist()
    ids = [-2, 5, 250]
    many = [*odd_arrays(ids), *(array[:, None] for array in odd_arrays(ids))]
    many += [
        ids,
        np.array(ids, np.int16),
        np.array(ids, ">i8"),
        torch.tensor(ids).int(),
    ]
    many += [
        pd.Series(ids),
        pd.Series(ids, dtype="Int64"),
        pd.Series(ids).astype(float),
    ]
    for column in many:
        checked = check_ids(column, "pids", "here")
        assert checked.dtype == np.int64
        assert checked.tolist() == ids
    for unsigned in (np.uint16, np.uint32, np.uint64):
        assert check_ids(np.array([7], unsigned), "pids", "here").tolist() == [7]
        tensor = torch.from_numpy(np.array([7], unsigned))
        assert check_ids(tensor, "pids", "here").tolist() == [7]
    assert len(check_ids([], "pids", "here")) == 0


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.ones((2, 2), int), "have shape .* give whole numbers"),
        (np.ones((1, 2), int), "have shape .* give whole numbers"),
        (np.ones(2, bool), "have shape .* type torch.bool; give whole numbers"),
        (3, "have shape .* give whole numbers"),
        ([1.0, 1.5, np.nan], "2 of 3 pids are not whole .* first 1.5 in row 1; give"),
        ([1.0, -np.inf], "1 of 2 pids are not whole .* first -inf in row 1"),
        # The next whole number of the type is the same.
        (np.array([2.0**24], np.float32), "too large .* first 16777216 in row 0"),
        (np.array([2.0**53]), "too large .* first 9007199254740992 in row 0"),
        (torch.tensor([256.0]).bfloat16(), "too large .* first 256 in row 0"),
        (np.array([2**63], np.uint64), "of type uint64 and go up to 92.*; give real"),
        (torch.from_numpy(np.array([2**64 - 1], np.uint64)), "go up to 184467"),
        ([2**70], "are of type object; give real numbers"),
        (["7", "9"], "are of type <U1; give real numbers"),
        ([[1], [1, 2]], "are of type object; give real numbers"),
        (np.ones(2, complex), "are of type complex128; give real numbers"),
        (torch.ones(2, dtype=torch.complex64), "are of type complex64; give real"),
        (
            pd.Series([1, None], dtype="Int64"),
            "are of type object; give real|not whole",
        ),
        (None, "are of type object; give real numbers"),
    ],
)
def test_ids_that_are_no_whole_numbers_are_refused(ids, message):
    refused(f"^here: .*{message}", check_ids, ids, "pids", "here")


@pytest.mark.filterwarnings("ignore:.*(prototype|deprecated)")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda eye: eye.to("meta"), "meta"),
        (lambda eye: torch.quantize_per_tensor(eye, 1.0, 0, torch.qint8), "quantised"),
        (lambda eye: torch.nested.nested_tensor([eye]), "nested"),
    ],
)
def test_tensors_of_other_layouts_are_refused(make, kind):
    told = f"^here: features are {kind}; give a dense tensor of numbers"
    refused(told, check_features, make(torch.eye(3)), "here", normalised=True)
    refused("are .*; give a dense", check_ids, make(torch.ones(3)), "pids", "here")


def test_lengths_off_by_rounding_are_made_one_and_others_stay_bit_for_bit():
    features = torch.nn.functional.normalize(
        torch.randn(40, 512, generator=torch.Generator().manual_seed(0)), dim=1
    )
    assert torch.equal(check_features(features, "here", normalised=True), features)
    for kind in (torch.bfloat16, torch.float16):
        rounded = features.to(kind).float()
        assert ((rounded.norm(dim=1) - 1).abs() > 2e-6).any()
        checked = check_features(features.to(kind), "here", normalised=True)
        norms = checked.double().norm(dim=1)
        assert float((norms - 1).abs().max()) < 1.1e-5
        expected = rounded / rounded.norm(dim=1, keepdim=True)
        torch.testing.assert_close(checked, expected, atol=2e-6, rtol=0)
    longer = features * torch.linspace(0.985, 1.015, 40)[:, None]
    checked = check_features(longer, "here", normalised=True)
    torch.testing.assert_close(checked, features)
    raw = check_features(longer, "here", normalised=False)
    assert torch.equal(raw, longer)


def test_ids_that_do_not_fit_are_refused_instead_of_wrapped():
    minus_one = np.array([-1]).view(np.uint64)
    large = np.array([1, 2**63], np.uint64)
    for ids in (large, torch.from_numpy(large), minus_one, [1, 10**20], [2**63, -1]):
        refused(
            "^here: .*pids .*; give (real|whole) num", check_ids, ids, "pids", "here"
        )
    assert check_ids(np.array([2**62], np.uint64), "x", "here").tolist() == [2**62]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0021", 21),
        ("-1", -1),
        ("0" * 30 + "5", 5),
        (str(LARGEST_ID), LARGEST_ID),
        (str(LARGEST_ID + 1), None),
        ("9" * 5000, None),
        *((wrong, None) for wrong in ("0002_1", "2.0", "+2", " 2", "²", "٣", "-", "")),
    ],
)
def test_whole_numbers_in_text(text, number):
    assert whole_number(text) == number


def test_labels_end_at_the_outlier_and_every_image_has_a_camera():
    assert check_labels([-1, 0], "here").tolist() == [-1, 0]
    refused("^here: the lowest label is -2", check_labels, [-2, 0], "here")
    assert check_camids([0, 5], "here").tolist() == [0, 5]
    refused(
        "^here: 2 of 3 images have no camera; write", check_camids, [-1, 0, -1], "here"
    )
    empty = np.zeros(0, int)
    assert len(check_labels(empty, "here")) == len(check_camids(empty, "here")) == 0


def test_columns_of_one_table_are_of_one_length():
    one, two = np.zeros(1), np.zeros(2)
    check_same_length("here", pids=two, camids=two, scores=two)
    refused(
        "^here: 2 pseudo labels, 2 pids and 1 camids; give one of each per image",
        check_same_length,
        "here",
        pseudo_labels=two,
        pids=two,
        camids=one,
    )


def test_counts():
    assert check_count(np.int64(3), "k", "here") == 3
    assert check_count(0, "k", "here", least=0) == 0
    for wrong in (0, -1, 2.0, True, "5", None, float("nan")):
        refused(
            "^here: k is .*; give a whole number from 1 up",
            check_count,
            wrong,
            "k",
            "here",
        )


@pytest.mark.parametrize(
    ("closed", "inside", "interval"),
    [
        ("both", [0, 0.5, 1], r"\[0, 1\]"),
        ("left", [0, 0.5], r"\[0, 1\)"),
        ("right", [0.5, 1], r"\(0, 1\]"),
        ("neither", [0.5], r"\(0, 1\)"),
    ],
)
def test_numbers_in_an_interval(closed, inside, interval):
    for value in (-1, 0, 0.5, 1, 2, float("nan"), True, "0.5", None):
        arguments = (value, "share", "here", 0, 1)
        if value in inside and value is not True:
            assert check_number(*arguments, closed=closed) == value
        else:
            refused(
                f"share is .* in {interval}", check_number, *arguments, closed=closed
            )
    assert check_number(np.float32(0.5), "share", "here", 0, 1) == 0.5
    assert check_number(3, "tol", "here", 0, float("inf")) == 3


def test_choices():
    check_choice("a", "rule", "here", ("a", "b"))
    refused(
        "^here: rule is 'c'; choose from a, b$",
        check_choice,
        "c",
        "rule",
        "here",
        ("a", "b"),
    )


def test_a_number_of_clusters_is_a_count_or_a_share():
    assert check_num_clusters(7, 10, "here") == 7
    assert check_num_clusters(0.2, 19, "here") == 3
    assert check_num_clusters(0.29, 100, "here") == 29  # 0.29 * 100 is below 29
    assert check_num_clusters(0.01, 10, "here") == 1
    refused("num_clusters is 11 for 10 images", check_num_clusters, 11, 10, "here")
    for wrong in (0, 0.0, 1.5, float("nan"), True, None):
        refused("num_clusters is", check_num_clusters, wrong, 10, "here")


def test_batches():
    rows, labels = torch.ones(2, 3), torch.tensor([0, 4])
    check_batch(rows, labels)
    check_classes(labels, 5)
    refused("labels go from 0 to 4; they must be in 0 to 3", check_classes, labels, 4)
    refused("labels go from -1", check_classes, labels - 1, 5)
    for bad in (labels[:1], labels[:, None]):
        refused(r"batch of shape \(2, 3\) with labels", check_batch, rows, bad)
    for bad in (labels.float(), labels.int(), labels.bool()):
        refused("labels of type torch.*; give whole numbers", check_batch, rows, bad)
    refused("B > 0", check_batch, rows[:0], labels[:0])


def test_positive_settings():
    check_positive("margin", 0.1)
    for wrong in (0, -1, float("nan")):
        refused("margin is .*; it must be positive", check_positive, "margin", wrong)


def test_what_does_not_fit_into_memory_is_refused_before_it_is_allocated(monkeypatch):
    monkeypatch.setattr(checks, "free_memory", lambda: 2**30)
    checks.check_memory(2**30, "all pairs", "here", "give fewer")
    message = "^here: all pairs take 3.0 GiB and 1.0 are free; give fewer$"
    with pytest.raises(ReIDError, match=message):
        checks.check_memory(3 * 2**30, "all pairs", "here", "give fewer")
    monkeypatch.setattr(checks, "free_memory", lambda: None)  # unknown: no refusal
    checks.check_memory(2**60, "all pairs", "here", "give fewer")


def test_large_results_are_refused(monkeypatch):
    monkeypatch.setattr(checks, "free_memory", lambda: 2**20)
    features = torch.nn.functional.normalize(torch.ones(30_000, 1))
    few = sp.csr_matrix((30_000, 30_000), dtype=np.float32)
    for call in (
        lambda: clustering.dense_distance(few),
        lambda: clustering.agglomerative(features, 9, metric="cosine"),
        lambda: clustering.jaccard_distance(features),
        lambda: evaluation.cosine_distance(features, features),
        lambda: evaluation.squared_euclidean_distance(features, features),
        lambda: evaluation.k_reciprocal_rerank(features, features),
    ):
        with pytest.raises(ReIDError, match=r"GiB and 0\.0 are free; "):
            call()


def test_free_memory_is_that_of_the_machine():
    free = checks.free_memory()
    assert free is None or 0 < free < 2**50


def test_masked_values_are_refused_and_not_taken_for_data():
    ids = np.ma.array([1, 2, 3], mask=[0, 1, 0])
    features = np.ma.array(np.eye(3), mask=[[0, 0, 0], [1, 1, 0], [0, 0, 0]])
    refused("1 of ids are masked; fill", check_ids, ids, "ids", "x")
    refused(
        "2 of features are masked; fill",
        check_features,
        features,
        "x",
        normalised=False,
    )
    whole = np.ma.array([1, 2, 3])
    assert check_ids(whole, "ids", "x").tolist() == [1, 2, 3]


def test_a_choice_is_a_text():
    for value in (np.array(["a", "b"]), ["a"], None, 1):
        refused("kind is .*; choose from a, b", check_choice, value, "kind", "x", "ab")


def test_true_or_false_of_every_image():
    for values in ([True, False], [[1], [0]], np.array([1.0, 0.0])):
        assert check_truth(values, "hits", "x").tolist() == [True, False]
    for values in ([0.5, 1], [-1, 0], [math.nan, 1], [[1, 0]]):
        refused(
            "hits has .*other than true and false", check_truth, values, "hits", "x"
        )


def test_seeds():
    assert check_seed(np.int64(3), "x").random() == np.random.default_rng(3).random()
    assert check_seed(generator := np.random.default_rng(0), "x") is generator
    for seed in (-1, 2.5, None, "0"):
        refused("x: seed is", check_seed, seed, "x")
