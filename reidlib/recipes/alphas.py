"""What alpha of QAFM can know and learn: scores of quality, and rivals on one training.

The gradients of QAFM are isolated: what alpha and the last layer learn does not reach
the branches. So any number of them can learn beside each other on the same branches,
and they differ in nothing else.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reidlib.checks import check_array, check_features, check_same_length
from reidlib.data.table import ImageTable, ReIDDataset
from reidlib.engine.cache import cached_tensors
from reidlib.engine.checkpoint import weights_hash
from reidlib.engine.run import Run, duration
from reidlib.errors import ReIDError
from reidlib.evaluation.failure import auroc
from reidlib.evaluation.ranking import (
    Evaluation,
    NoMatchError,
    evaluate,
    top_matches,
)
from reidlib.losses.smoothing import smoothed_cross_entropy
from reidlib.losses.triplet import batch_hard_triplet
from reidlib.models.fused import FusedNet
from reidlib.quality.fusion import AlphaWeighs, WeightedFusion, weight_loss
from reidlib.quality.identifiability import (
    Definition,
    Identifiability,
    measure_identifiability,
    views_at_once,
)
from reidlib.quality.perturbations import PERTURBATIONS
from reidlib.quality.pixels import contrast, sharpness
from reidlib.recipes.settings import TrainingConfig
from reidlib.recipes.steps import open_split

AlphaLoss = Literal["ratio", "linear", "identity", "none"]

ALPHAS = tuple(round(0.1 * step, 1) for step in range(11))
"""The fixed weights of the paper's Table 4."""


@dataclass(frozen=True)
class FusionConfig(TrainingConfig):
    """Settings of alpha and of the last layer."""

    gradients: Literal["isolated", "accumulated"] = "isolated"
    """Each loss reaches its own part, as the paper says, or whatever it depends on, as
    in its code."""
    alpha_loss: AlphaLoss = "ratio"
    """What alpha learns from: the ratio of the branches' losses, QAFM-E6 as printed, or
    the loss of the identities; none: it stays at fixed_alpha."""
    fixed_alpha: float = 0.5
    """alpha, where it is not learned."""
    alpha_weighs: AlphaWeighs = "attributes"
    """What alpha weighs, see `weigh`."""
    alpha_hidden: int = 32
    """Width of the perceptron of alpha; 0: a single neuron."""
    identifiability: Definition = "pairs"
    """Which distances the score is the mean of."""
    smoothing: float = 0.1
    """Share of an identity label that is spread over all identities."""
    margin: float = 0.3
    """Margin of the triplet loss."""


SPLITS = ("train", "query", "gallery")

Scores = dict[str, Tensor]
"""``(N,)`` scores of the images of each split."""


# -- scores ------------------------------------------------------------------------


def quality_scores(
    model: FusedNet, dataset: ReIDDataset, config: FusionConfig, run: Run | None = None
) -> dict[str, Scores]:
    """Return several scores of the quality of every image, QAFM-E1 among them.

    What is measured depends on the data and on the quality encoder alone, and so it is
    kept in the cache for all runs; what knows nothing is drawn with the run's seed.

    Args:
        model: Network, on the device.
        dataset: Data.
        config: Settings.
        run: To say how long it takes.

    Returns:
        By name: identifiability (``pairs``, ``anchor``), ``sharpness``, ``contrast``,
        and two that know nothing of an image, ``shuffled`` (the pairs of other images)
        and ``random``.
    """
    device = next(model.parameters()).device
    quality = model.quality.eval()
    count = sum(len(getattr(dataset, split)) for split in SPLITS)
    encode = quality.encode if run is None else timed(quality.encode, count, run)
    prepare = quality.preparation(config.seed)

    def measure() -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for split in SPLITS:
            table: ImageTable = getattr(dataset, split)
            both = Identifiability(torch.empty(0), torch.empty(0))
            plain = torch.empty(2, 0)
            if len(table):
                images = open_split(table, config, device)
                both = measure_identifiability(
                    encode, images, size=quality.size, prepare=prepare
                )
                fits = views_at_once(torch.empty(0, *config.size), None)
                parts = torch.arange(len(table)).split(min(fits, config.extract_batch))
                plain = torch.cat(
                    [
                        torch.stack([sharpness(batch), contrast(batch)])
                        for batch in images.batches(parts)
                    ],
                    dim=1,
                ).float()
            found |= {f"{split}_pairs": both.pairs, f"{split}_anchor": both.anchor}
            found |= {f"{split}_sharpness": plain[0].cpu()}
            found |= {f"{split}_contrast": plain[1].cpu()}
        return found

    key: list[Any] = [dataset.fingerprint(), config.size, quality.size]
    key.append(weights_hash(quality))
    if quality.augment is not None:
        key += [asdict(quality.augment), config.seed]
    kept = cached_tensors("identifiability", key, measure)
    measured = ("pairs", "anchor", "sharpness", "contrast")
    found = {
        name: {split: kept[f"{split}_{name}"] for split in SPLITS} for name in measured
    }
    drawn = torch.Generator().manual_seed(config.seed)
    found["shuffled"] = {
        split: values[torch.randperm(len(values), generator=drawn)]
        for split, values in found["pairs"].items()
    }
    found["random"] = {
        split: torch.randn(len(values), generator=drawn)
        for split, values in found["pairs"].items()
    }
    return found


def timed(
    encode: Callable[[Tensor], Tensor], count: int, run: Run
) -> Callable[[Tensor], Tensor]:
    """Return an encoder that says once how long the quality of all images takes.

    Args:
        encode: Views to features.
        count: Number of images.
        run: Where it is said.
    """
    began: list[float] = []
    seen: list[int] = []

    def call(views: Tensor) -> Tensor:
        began.append(time.monotonic())
        if len(began) == 4:  # the first call takes longer
            each = (began[3] - began[1]) / sum(seen[1:])
            told = duration(each * count * (1 + len(PERTURBATIONS)))
            run.log(f"about {told} to measure the quality of {count} images")
        seen.append(len(views))
        return encode(views)

    return call


# -- losses ------------------------------------------------------------------------


class FusedClassifier(nn.Module):
    """The classifier over identities behind the last layer, with its neck.

    Args:
        num_features: Length of the descriptor.
        num_people: Number of identities.
    """

    def __init__(self, num_features: int, num_people: int) -> None:
        super().__init__()
        self.neck = nn.BatchNorm1d(num_features)
        self.linear = nn.Linear(num_features, num_people, bias=False)

    def forward(self, fused: Tensor, detached: bool = False) -> Tensor:
        """Return ``(B, people)`` logits.

        Args:
            fused: ``(B, num_features)``.
            detached: Let no gradient into the weights, nor count the batch again.
        """
        if detached:
            norm = F.batch_norm(
                *(fused, None, None, self.neck.weight.detach()),
                *(self.neck.bias.detach(), True),
            )
            return F.linear(norm, self.linear.weight.detach())
        logits: Tensor = self.linear(self.neck(fused))
        return logits


@dataclass(frozen=True)
class Batch:
    """What the branches made of a batch, for the last layer and for alpha.

    Attributes:
        v_a: ``(B, D)`` descriptors of the appearance branch.
        v_s: ``(B, D)`` descriptors of the attribute branch.
        of_appearance: ``(B,)`` losses of the appearance branch.
        of_attributes: ``(B,)`` losses of the attribute branch.
        people: ``(B,)`` identities.
    """

    v_a: Tensor
    v_s: Tensor
    of_appearance: Tensor
    of_attributes: Tensor
    people: Tensor


def fusion_losses(
    config: FusionConfig,
    batch: Batch,
    scores: Tensor,
    alpha_of: Callable[..., Tensor],
    fuse: Callable[..., Tensor],
    classify: Callable[..., Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the loss of the last layer, that of alpha, and alpha.

    Args:
        config: Settings.
        batch: Of the branches.
        scores: ``(B,)`` scores of quality.
        alpha_of: From scores to alpha, as `WeightedFusion.alpha`.
        fuse: `WeightedFusion`, or the method of a network.
        classify: `FusedClassifier`, or the method of one.

    Returns:
        Two scalars, and ``(B,)`` without a gradient.
    """
    people, smoothing = batch.people, config.smoothing
    alpha = alpha_of(scores)
    of_layer = alpha.detach() if config.gradients == "isolated" else alpha
    fused = fuse(batch.v_a, batch.v_s, of_layer)
    of_fused = smoothed_cross_entropy(
        classify(fused), people, smoothing
    ) + batch_hard_triplet(F.normalize(fused), people, config.margin)
    of_alpha = alpha.new_zeros(())
    if config.alpha_loss == "identity":
        # What lies behind alpha is held still.
        still = fuse(batch.v_a.detach(), batch.v_s.detach(), alpha, detached=True)
        told = classify(still, detached=True)
        of_alpha = smoothed_cross_entropy(told, people, smoothing)
    elif config.alpha_loss != "none":
        losses = batch.of_appearance, batch.of_attributes
        of_alpha = weight_loss(alpha, *losses, config.alpha_loss)
    return of_fused, of_alpha, alpha.detach()


# -- rivals ------------------------------------------------------------------------


@dataclass(frozen=True)
class Rival:
    """One way to learn alpha.

    Attributes:
        loss: As ``alpha_loss`` of the settings.
        weighs: As ``alpha_weighs``.
        score: Which of `quality_scores` alpha is made of.
    """

    loss: AlphaLoss
    weighs: AlphaWeighs
    score: str

    @property
    def name(self) -> str:
        """For a table."""
        return f"{self.loss}, {self.weighs}, {self.score}"


RIVALS = (
    *(
        Rival(loss, weighs, "pairs")
        for weighs in ("attributes", "appearance")
        for loss in ("ratio", "linear", "identity")
    ),
    *(
        Rival("ratio", "attributes", score)
        for score in ("anchor", "sharpness", "contrast", "shuffled", "random")
    ),
    Rival("none", "attributes", "pairs"),
)
"""Every loss in both conventions, every score with the ratio, and no learning."""


class Rivals(nn.Module):
    """Last layers with an alpha each, all of which learn on the same branches.

    Each starts as the own one of the network.

    Args:
        config: Settings, whose gradients are isolated.
        fusion: The network's own.
        classifier: The network's own.
        scores: Of `quality_scores`.
    """

    def __init__(
        self,
        config: FusionConfig,
        fusion: WeightedFusion,
        classifier: FusedClassifier,
        scores: Mapping[str, Scores],
    ) -> None:
        super().__init__()
        self.configs = [
            replace(config, alpha_loss=one.loss, alpha_weighs=one.weighs)
            for one in RIVALS
        ]
        fusions = []
        for one in RIVALS:
            own = copy.deepcopy(fusion)
            own.alpha_weighs = one.weighs
            own.fixed_alpha = config.fixed_alpha if one.loss == "none" else None
            own.weight.normalise.fit(scores[one.score]["train"])
            fusions.append(own)
        self.fusions = nn.ModuleList(fusions)
        self.classifiers = nn.ModuleList(copy.deepcopy(classifier) for _ in RIVALS)
        self.scores = {one.score: scores[one.score]["train"] for one in RIVALS}

    def forward(self, batch: Batch, index: Tensor) -> Tensor:
        """Return the sum of all losses.

        Args:
            batch: Of the branches.
            index: ``(B,)`` rows of the training split.
        """
        parts = zip(RIVALS, self.configs, self.fusions, self.classifiers, strict=True)
        device = batch.v_a.device
        losses: list[Tensor] = []
        fusion: Any
        for one, config, fusion, classifier in parts:
            scores = self.scores[one.score][index].to(device)
            learn = fusion.alpha, fusion, classifier
            losses += fusion_losses(config, batch, scores, *learn)[:2]
        return torch.stack(losses).sum()


# -- figures -----------------------------------------------------------------------


def score_alphas(
    alpha_of: Callable[..., Tensor],
    fuse: Callable[..., Tensor],
    made: Mapping[str, Tensor],
    scores: Scores,
    dataset: ReIDDataset,
) -> tuple[Evaluation, dict[str, Any], dict[str, Tensor]]:
    """Return how well the learned and each fixed alpha retrieve.

    Args:
        alpha_of: As for `fusion_losses`.
        fuse: As for `fusion_losses`.
        made: ``(N, 2D)`` descriptors of both branches of the query and the gallery.
        scores: Of their images.
        dataset: Data.

    Returns:
        Scores with the learned alpha; figures of alpha, of the fixed ones, and of the
        learned one in a gallery without images of people whom no query shows; the
        descriptors with the learned alpha, L2-normalised, on the CPU.
    """
    both, alphas = {}, {}
    for name in ("query", "gallery"):
        found = _split_of(made, name, dataset, "score_alphas", "descriptors")
        pair = check_features(found, "score_alphas", normalised=False)
        if pair.shape[1] % 2:
            raise ReIDError(
                f"score_alphas: descriptors of the {name} have {pair.shape[1]} "
                "dimensions; give those of both branches, equally long"
            )
        both[name] = pair.chunk(2, dim=1)
        known = _split_of(scores, name, dataset, "score_alphas", "scores")
        alphas[name] = alpha_of(known.to(pair.device))

    def descriptors(alpha: float | None = None) -> dict[str, Tensor]:
        given = alphas if alpha is None else dict.fromkeys(both, alpha)
        return {
            name: F.normalize(fuse(*parts, given[name]), dim=1).cpu()
            for name, parts in both.items()
        }

    learned = descriptors()
    fixed = {alpha: descriptors(alpha) for alpha in ALPHAS}
    query, gallery = dataset.query, dataset.gallery

    def score(found: dict[str, Tensor], rows: Any = slice(None)) -> Evaluation:
        return evaluate(found["query"], found["gallery"][rows], query, gallery[rows])

    whole = score(learned)
    wanted = np.flatnonzero(np.isin(gallery.pids, query.pids))
    by_alpha = {alpha: score(found) for alpha, found in fixed.items()}
    alpha = alphas["query"].cpu().double()
    quality = check_array(scores["query"], "scores", "score_alphas").cpu().double()
    spread = float(alpha.std()) if len(alpha) > 1 else 0.0
    varies = min(spread, float(quality.std(correction=0))) > 0
    together = np.corrcoef(alpha, quality)[0, 1] if varies else math.nan
    # The best fixed alpha of each query: what a perfect weight could reach, if the
    # choice were not made by the answer.
    best = np.stack([one.ap for one in by_alpha.values()]).max(axis=0)
    told = {
        "alpha": {
            "mean": float(alpha.mean()),
            "std": spread,
            "correlation": float(together),
            "oracle_mAP": float(np.nanmean(best)),
            "held_out_gain": held_out_gain(fixed, score, gallery),
        },
        "fixed_alpha": {f"{alpha:.1f}": ranks(one) for alpha, one in by_alpha.items()},
        "without_distractors": ranks(score(learned, wanted)),
    }
    return whole, told, learned


def ranks(found: Evaluation) -> dict[str, float]:
    """Return what the paper's Table 4 has of a ranking."""
    return {"mAP": found.mAP, "rank_1": found.cmc[1], "rank_5": found.cmc[5]}


def _split_of(
    values: Mapping[str, Any], name: str, dataset: ReIDDataset, where: str, what: str
) -> Tensor:
    """Return what belongs to the images of a split, as a tensor, or raise."""
    if name not in values:
        raise ReIDError(
            f"{where}: there are {what} of {', '.join(values) or 'no split'}; give "
            f"those of the {name}, too"
        )
    found = check_array(values[name], what, where)
    if not found.ndim or len(found) != len(getattr(dataset, name)):
        raise ReIDError(
            f"{where}: {what} of the {name} have shape {tuple(found.shape)}; give one "
            f"for each of its {len(getattr(dataset, name))} images"
        )
    return found


def held_out_gain(
    fixed: Mapping[float, dict[str, Tensor]], score: Any, gallery: ImageTable
) -> float:
    """Return what an alpha for each query gains, chosen in one half of the cameras.

    It is measured in the other half, against one alpha for all queries that is chosen
    in the same way.

    Args:
        fixed: Descriptors by weight.
        score: From descriptors and rows of the gallery to the `Evaluation`.
        gallery: For its cameras, of which every second one is a half.

    Returns:
        Mean average precision, the mean of both directions; NaN if there are no two
        halves, or if no query has a match in one of them.

    Raises:
        ReIDError: If there is no weight, or if descriptors cannot be scored or are not
            those of the gallery.
    """
    if not fixed:
        raise ReIDError("held_out_gain: there is no fixed alpha; give two or more")
    if not gallery.has_cameras or len(np.unique(gallery.camids)) < 2:
        return math.nan
    side = np.unique(gallery.camids, return_inverse=True)[1] % 2
    rows = [np.flatnonzero(side == s) for s in (0, 1)]
    for found in fixed.values():
        check_same_length(
            "held_out_gain", gallery_descriptors=found["gallery"], images=gallery.paths
        )
    try:
        halves = [
            np.stack([score(found, half).ap for found in fixed.values()])
            for half in rows
        ]
    except NoMatchError:  # no query has a match in one half
        return math.nan
    seen = ~np.isnan(halves[0] + halves[1]).any(axis=0)
    one, other = (half[:, seen] for half in halves)
    if not seen.any():
        return math.nan
    gains = []
    for chosen, measured in ((one, other), (other, one)):
        single = measured[chosen.mean(axis=1).argmax()].mean()
        own = measured[chosen.argmax(axis=0), np.arange(seen.sum())].mean()
        gains.append(own - single)
    return float(np.mean(gains))


def failure_areas(
    learned: Mapping[str, Tensor],
    scores: Mapping[str, Scores],
    dataset: ReIDDataset,
    unmatched: np.ndarray,
) -> dict[str, Any]:
    """Return how well each score knows which queries fail at rank 1.

    Args:
        learned: L2-normalised descriptors of query and gallery.
        scores: Of `quality_scores`; of sharpness and contrast a low value is bad.
        dataset: Data.
        unmatched: Rows of queries without a match, which cannot but fail: left out.

    Returns:
        The share that fails; by score the area under the ROC curve with the limits of
        its 95 % interval, of the distance to the nearest image as well. No areas if
        all queries fail or none does.
    """
    where = "failure_areas"
    rows = np.setdiff1d(np.arange(len(dataset.query)), unmatched)
    query, gallery = dataset.query[rows], dataset.gallery
    q, g = (
        check_features(
            _split_of(learned, name, dataset, where, "descriptors"),
            where,
            normalised=True,
        )
        for name in ("query", "gallery")
    )
    q = q[rows]
    nearest, hits = top_matches(q, g, query, gallery, k=1)
    failed = ~np.asarray(hits[:, 0])
    told: dict[str, Any] = {"share": float(failed.mean())}
    if failed.all() or not failed.any():
        return told
    far = 1 - (q * g[torch.as_tensor(nearest[:, 0])]).sum(dim=1)
    predictors = {
        name: _split_of(found, "query", dataset, where, name)[rows]
        for name, found in scores.items()
    }
    for low_is_bad in {"sharpness", "contrast"} & predictors.keys():
        predictors[low_is_bad] = -predictors[low_is_bad].double()
    predictors["distance"] = far
    areas = {
        name: list(auroc(values, failed, query.pids))
        for name, values in predictors.items()
    }
    return {**told, "areas": areas}
