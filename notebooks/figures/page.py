"""Interactive figures without a kernel: numbers, a script and a static form.

The scripts stand in ``book/interactive``: one for each kind of figure, and ``base.js``
and ``base.css``, which they share.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from IPython.display import HTML
from PIL import Image

SCRIPTS = Path(__file__).parents[2] / "book" / "interactive"


def page_figure(kind: str, data: Any, static: str, caption: str) -> HTML:
    """Return a figure that works from a file, without a network and without a kernel.

    Args:
        kind: Name of its script in ``book/interactive``.
        data: What the script reads; JSON, with None for a number that is not defined.
        static: HTML that is shown without JavaScript and in print.
        caption: What the figure shows.

    Example:
        >>> shown = page_figure("sliders", {"a": 1}, "<p>a is 1</p>", "What a is.")
        >>> "<figcaption>What a is.</figcaption>" in shown.data
        True
    """
    base, style, own = (
        (SCRIPTS / name).read_text(encoding="utf-8")
        for name in ("base.js", "base.css", f"{kind}.js")
    )
    # A closing tag inside of the data would end the script.
    inlined = json.dumps(
        data, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    ).replace("</", "<\\/")
    return HTML(
        f'<figure class="live" data-figure="{kind}"><style>{style}</style>'
        f'<div class="live-static">{static}</div>'
        f"<figcaption>{html.escape(caption)}</figcaption>"
        f'<script type="application/json">{inlined}</script>'
        f"<script>(function () {{\n{base}\n{own}}})();</script></figure>"
    )


def sheet(images: Sequence[Any], alt: str, columns: int, quality: int = 75) -> str:
    """Return small pictures of one size as a single one, which a script cuts apart.

    Args:
        images: ``(H, W, 3)`` uint8 each.
        alt: What they show, row by row.
        columns: How many stand in a row.
        quality: Of the JPEG.

    Example:
        >>> picture = sheet([np.zeros((4, 2, 3), np.uint8)] * 3, "three", columns=2)
        >>> 'data-columns="2" data-rows="2"' in picture
        True
    """
    tall, wide = images[0].shape[:2]
    rows = math.ceil(len(images) / columns)
    whole = np.full((rows * tall, columns * wide, 3), 255, np.uint8)
    for place, image in enumerate(images):
        top, left = tall * (place // columns), wide * (place % columns)
        whole[top : top + tall, left : left + wide] = image
    buffer = io.BytesIO()
    Image.fromarray(whole).save(buffer, "jpeg", quality=quality, optimize=True)
    source = base64.b64encode(buffer.getvalue()).decode()
    return (
        f'<img class="live-sheet" data-columns="{columns}" data-rows="{rows}" '
        f'src="data:image/jpeg;base64,{source}" alt="{html.escape(alt)}">'
    )


def table(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Return a table, the first cell of each row its head.

    Args:
        head: Above all columns, that of the heads of the rows included.
        rows: For each head its cells.

    Example:
        >>> "<tr><th>soft &amp; even</th><td>2</td></tr>" in table(
        ...     ["", "loss"], {"soft & even": ["2"]}
        ... )
        True
    """

    def cells(kind: str, texts: Sequence[str]) -> str:
        return "".join(f"<{kind}>{html.escape(text)}</{kind}>" for text in texts)

    lines = "".join(
        f"<tr>{cells('th', [name])}{cells('td', row)}</tr>"
        for name, row in rows.items()
    )
    return (
        f"<table><thead><tr>{cells('th', head)}</tr></thead>"
        f"<tbody>{lines}</tbody></table>"
    )
