"""One threshold: what it does between every two cameras, and in an hour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from IPython.display import HTML

from figures.page import page_figure, table
from reidlib.evaluation import Pairs, expected_alarms, rates_by_cameras

IMAGES = (1_000, 10_000, 100_000)
"""Images of others in an hour."""


def threshold_figure(
    pairs: Mapping[str, Pairs],
    thresholds: Sequence[float],
    start: tuple[str, float],
    *,
    caption: str,
    matches: int = 4,
) -> HTML:
    """Return a threshold on a slider, with its rates and its alarms.

    Args:
        pairs: For the name of each model its pairs.
        thresholds: Distances.
        start: Model and threshold to start from.
        caption: What the figure shows.
        matches: Images of the person in an hour.
    """
    models, rows = [], {}
    for name, table_of in pairs.items():
        values = []
        for threshold in thresholds:
            rates = rates_by_cameras(table_of, threshold)
            fpr = float((table_of.negatives <= threshold).mean())
            tpr = float((table_of.positives <= threshold).mean())
            values.append(
                {
                    "fpr": round(fpr, 6),
                    "tpr": round(tpr, 4),
                    "cameras": [
                        [round(float(share), 5) for share in line[: row + 1]]
                        for row, line in enumerate(rates.fpr)
                    ],
                }
            )
            if threshold == start[1]:
                alarms = expected_alarms(fpr, tpr, IMAGES[1], matches)
                rows[name] = [
                    f"{100 * fpr:.2f}",
                    f"{100 * tpr:.1f}",
                    f"{100 * rates.fpr.min():.2f} to {100 * rates.fpr.max():.2f}",
                    f"{alarms.false:.0f} false, {alarms.true:.1f} true",
                ]
        models.append({"name": name, "values": values})
    data = {
        "models": models,
        "cameras": rates.cameras.tolist(),
        "thresholds": [f"{threshold:.2f}" for threshold in thresholds],
        "start": list(thresholds).index(start[1]),
        "model": list(pairs).index(start[0]),
        "images": IMAGES,
        "matches": matches,
    }
    head = [
        f"threshold {start[1]:.2f}",
        "false matches (%)",
        "true matches (%)",
        "false matches of two cameras (%)",
        f"alarms among {IMAGES[1]:,} images",
    ]
    return page_figure("threshold", data, table(head, rows), caption)
