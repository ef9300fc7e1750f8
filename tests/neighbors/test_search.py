from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from reidlib.errors import ReIDError
from reidlib.neighbors import nearest_neighbors, search_recall
from reidlib.neighbors import search as module
from reidlib.neighbors.search import pair_similarities

pytestmark = pytest.mark.usefixtures("form")


def random_features(n: int, d: int = 16, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=generator), dim=1)


def naive(features: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Sort all others of each image by (-similarity, index), in a loop."""
    wide = features.double().numpy()
    similarity, index = [], []
    for i, vector in enumerate(wide):
        scores = [np.float32((vector * other).sum()) for other in wide]
        others = sorted((-s, j) for j, s in enumerate(scores) if j != i)[:k]
        similarity.append([-s for s, _ in others])
        index.append([j for _, j in others])
    return np.array(similarity), np.array(index)


@pytest.fixture(params=["auto", "torch", "faiss"])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "faiss":
        pytest.importorskip("faiss")
    return request.param


def test_agrees_with_a_loop(backend: str) -> None:
    features = random_features(90)
    similarity, index = nearest_neighbors(features, 7, backend=backend)
    wanted_similarity, wanted_index = naive(features, 7)
    np.testing.assert_array_equal(index, wanted_index)
    np.testing.assert_allclose(similarity, wanted_similarity, atol=1e-6)
    assert similarity.dtype == torch.float32
    assert index.dtype == torch.int64


def test_duplicates_are_ordered_by_index_and_self_is_excluded(backend: str) -> None:
    # Seven copies of each: more than k, so every place is a tie.
    features = random_features(12)[torch.arange(84) % 12]
    similarity, index = nearest_neighbors(features, 4, backend=backend)
    for i in range(84):
        copies = [j for j in range(84) if j % 12 == i % 12 and j != i]
        assert index[i].tolist() == copies[:4]
    torch.testing.assert_close(similarity, torch.ones(84, 4))


def test_ties_at_the_last_place_go_to_the_lower_index(backend: str) -> None:
    a, b = [1.0, 0.0], [0.6, 0.8]
    features = torch.tensor([b, b, b, a, b])
    index = nearest_neighbors(features, 2, backend=backend)[1]
    assert index.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1], [0, 1]]


def test_near_ties_do_not_depend_on_the_backend() -> None:
    pytest.importorskip("faiss")
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(400, 64, generator=generator)
    features = normalize(torch.randn(1, 64, generator=generator) + 1e-3 * noise, dim=1)
    ours = nearest_neighbors(features, 20, backend="torch")
    theirs = nearest_neighbors(features, 20, backend="faiss")
    assert torch.equal(ours[1], theirs[1])
    torch.testing.assert_close(ours[0], theirs[0], atol=2e-6, rtol=0)


@given(seed=st.integers(0, 10**6), tile=st.integers(1, 70), copies=st.integers(1, 40))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_blocks_and_threads_do_not_change_the_answer(
    form: str, seed: int, tile: int, copies: int
) -> None:
    # Copies, near copies, and images of their own, in any order.
    features = random_features(60, seed=seed)
    rows = torch.arange(60) // copies
    features = features[rows] + 1e-7 * (torch.arange(60)[:, None] % 3)
    features = normalize(features, dim=1)
    wanted = naive(features, 9)[1]
    before = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_TILE", tile)
        patch.setattr(module, "_BLOCK", 60 * tile)
        torch.set_num_threads(1 + seed % 3)
        try:
            similarity, index = nearest_neighbors(features, 9)
        finally:
            torch.set_num_threads(before)
    np.testing.assert_array_equal(index, wanted)
    assert torch.equal(similarity, nearest_neighbors(features, 9)[0])


def rounded_triangle(queries, features, count):
    """What a processor with tiles of bfloat16 finds, on any processor."""
    if torch.get_float32_matmul_precision() == "medium":
        queries, features = (x.bfloat16().float() for x in (queries, features))
    product = queries @ features.T
    product.fill_diagonal_(-torch.inf)
    found = product.topk(count, dim=1)
    return found.values, found.indices.int()


@pytest.mark.parametrize("processor", ["this one", "with bfloat16"])
@pytest.mark.parametrize(
    "spread", [1.0, 0.05, 0.002], ids=["apart", "near", "nearly equal"]
)
def test_candidates_in_low_precision_lose_nothing(monkeypatch, form, processor, spread):
    if form == "arrays":
        pytest.skip("candidates are of the compiled search")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1500, 64, generator=generator)
    features = normalize(torch.ones(1, 64) + spread * noise, dim=1)
    features[7] = features[3]
    wanted = nearest_neighbors(features, 9, backend="torch")
    monkeypatch.setattr(module, "_LONG", 16)
    monkeypatch.setattr(module, "_MANY_IMAGES", 1000)
    monkeypatch.setattr(module, "_bfloat16_is_fast", lambda: True)
    searches = []
    if processor == "with bfloat16":
        monkeypatch.setattr(module, "_search_triangle", rounded_triangle)
    candidates = module._search_candidates
    monkeypatch.setattr(
        module, "_search_candidates", lambda *a: searches.append(1) or candidates(*a)
    )
    found = nearest_neighbors(features, 9)
    assert searches  # it was really this search
    assert torch.equal(found[1], wanted[1])
    assert torch.equal(found[0], wanted[0])
    assert torch.get_float32_matmul_precision() == "highest"


def test_more_near_ties_than_are_kept_are_computed_again() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(120, 8, generator=generator)
    features = normalize(torch.ones(1, 8) + 1e-4 * noise, dim=1)
    np.testing.assert_array_equal(
        nearest_neighbors(features, 5)[1], naive(features, 5)[1]
    )


def test_pairs_have_one_similarity_in_either_order() -> None:
    features = random_features(40)
    rows, others = (np.random.default_rng(s).integers(0, 40, 900) for s in (0, 1))
    similarity = pair_similarities(features, features, rows, others)
    mirrored = pair_similarities(features, features, others, rows)
    np.testing.assert_array_equal(similarity, mirrored)
    wide = features.double().numpy()
    exact = np.array([wide[i] @ wide[j] for i, j in zip(rows, others, strict=True)])
    np.testing.assert_allclose(similarity, exact, atol=6e-8)


def test_all_others_can_be_asked_for(backend: str) -> None:
    index = nearest_neighbors(random_features(5), 4, backend=backend)[1]
    for i, row in enumerate(index.tolist()):
        assert sorted([*row, i]) == [0, 1, 2, 3, 4]


def test_training_precision_stays_out_of_the_search_and_is_put_back() -> None:
    features = random_features(50)
    wanted = nearest_neighbors(features, 5)[0]
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(nearest_neighbors(features, 5)[0], wanted)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_numpy_and_half_precision_features_are_taken() -> None:
    features = random_features(20)
    index = nearest_neighbors(features, 3)[1]
    assert torch.equal(nearest_neighbors(features.numpy(), 3)[1], index)
    halves = features.half()
    wanted = nearest_neighbors(halves.float(), 3)[1]
    assert torch.equal(nearest_neighbors(halves, 3)[1], wanted)


@pytest.mark.parametrize("k", [0, -3, 2.0, True, "5"])
def test_k_must_be_a_count(k: object) -> None:
    with pytest.raises(ReIDError, match=r"k is .* give a whole number from 1 up"):
        nearest_neighbors(random_features(9), k)


@pytest.mark.parametrize("n", [1, 5])
def test_k_must_be_below_n(n: int) -> None:
    with pytest.raises(ReIDError, match=f"k is 5 and there are {n} images"):
        nearest_neighbors(random_features(n), 5)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(0, 4), "at least one image"),
        (torch.ones(4), r"give \(N, D\)"),
        (torch.tensor([[1.0, 0.0], [float("nan"), 0.0]]), "first in row 1"),
        (torch.tensor([[1.0, 0.0], [float("inf"), 0.0]]), "NaN or inf"),
        (torch.tensor([[1.0, 0.0], [3.0, 0.0]]), "first row 1 of length 3"),
        ([[1.0, 0.0]], "are a list"),
    ],
)
def test_features_are_checked(features: object, message: str) -> None:
    with pytest.raises(ReIDError, match=message) as raised:
        nearest_neighbors(features, 1)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("approximate", ["faiss-ivf", "faiss-hnsw"])
def test_an_approximate_search_finds_most_neighbours(approximate: str) -> None:
    pytest.importorskip("faiss")
    centers = random_features(60, 32, seed=1)
    noise = torch.randn(1200, 32, generator=torch.Generator().manual_seed(2))
    features = normalize(centers[torch.arange(1200) % 60] + 0.1 * noise, dim=1)
    similarity, index = nearest_neighbors(features, 10, backend=approximate)
    assert (index != torch.arange(1200)[:, None]).all()
    assert (similarity[:, :-1] >= similarity[:, 1:]).all()
    recall = search_recall(features, 10, approximate, torch.Generator(), sample=300)
    assert 0.9 < recall <= 1
    exact = nearest_neighbors(features, 10)[1]
    hits = (index[:, :, None] == exact[:, None]).any(dim=2)
    everything = search_recall(features, 10, approximate, torch.Generator())
    assert everything == pytest.approx(float(hits.double().mean()), abs=0.01)


@pytest.mark.parametrize("approximate", ["faiss-ivf", "faiss-hnsw"])
def test_an_approximate_search_of_few_images_finds_all(approximate: str) -> None:
    pytest.importorskip("faiss")
    for n in (2, 5, 45):
        features = random_features(n)
        index = nearest_neighbors(features, n - 1, backend=approximate)[1]
        assert torch.equal(index, nearest_neighbors(features, n - 1)[1])


def test_an_exact_search_has_full_recall(backend: str) -> None:
    features = random_features(12)[torch.arange(90) % 12]
    assert search_recall(features, 5, backend, torch.Generator()) == 1


def test_unknown_backend() -> None:
    with pytest.raises(ReIDError, match="backend is 'annoy'"):
        nearest_neighbors(random_features(9), 2, backend="annoy")


def test_missing_faiss_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(ReIDError, match="pip install faiss-cpu"):
        nearest_neighbors(random_features(9), 2, backend="faiss")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_gpu_agrees_with_cpu() -> None:
    features = random_features(300, 64)
    similarity, index = nearest_neighbors(features.cuda(), 10)
    assert similarity.is_cuda
    assert torch.equal(index.cpu(), nearest_neighbors(features, 10)[1])
