"""Print the built book as one PDF: ``python book/print/make_pdf.py _build/html X.pdf``.

All chapters become one document, so that links between pages and the outline work, and
Chromium prints it twice: the first print says on which page everything is, the second
shows it in the table of contents and beside exercises. Nothing comes from a network.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
import time
from pathlib import Path

import matplotlib as mpl
from playwright.sync_api import Page, sync_playwright

from chromium import FLAGS, MISSING, find_browser
from volume import ABOUT, SOLUTIONS, Volume, code_colours, new, read_volume

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
LOGO = ROOT / "book" / "_static" / "logo.svg"
# The fonts that come with matplotlib, so that a page looks the same on every machine.
FONTS = {
    ("STIX", "normal", "normal"): "STIXGeneral",
    ("STIX", "normal", "italic"): "STIXGeneralItalic",
    ("STIX", "bold", "normal"): "STIXGeneralBol",
    ("STIX", "bold", "italic"): "STIXGeneralBolIta",
    ("DejaVu", "normal", "normal"): "DejaVuSans",
    ("DejaVu", "bold", "normal"): "DejaVuSans-Bold",
    ("DejaVu Mono", "normal", "normal"): "DejaVuSansMono",
    ("DejaVu Mono", "bold", "normal"): "DejaVuSansMono-Bold",
    ("DejaVu Mono", "normal", "italic"): "DejaVuSansMono-Oblique",
}
# A command that MathJax does not know is an error, and not a word in red.
MATHJAX = {
    "options": {"processHtmlClass": "math", "enableMenu": False},
    "tex": {"packages": {"[-]": ["noundefined"]}},
}
# What a number of a page will take up, until it is known.
UNKNOWN = 888
PATIENCE = 1_800_000  # milliseconds


def fonts() -> str:
    """Declare the fonts in CSS."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    return "\n".join(
        f'@font-face {{ font-family: "{family}"; font-weight: {weight}; '
        f'font-style: {style}; src: url("{(folder / name).as_uri()}.ttf"); }}'
        for (family, weight, style), name in FONTS.items()
    )


def running_heads(volume: Volume) -> str:
    """Write the title of each chapter above its pages, in CSS."""
    rules = []
    for part in volume.parts:
        titles = {one.id: one.title for one in part.chapters}
        if part.title == SOLUTIONS:
            titles = {part.id: part.title}
        for number, (name, title) in enumerate(titles.items()):
            page = f"{part.id}-{number}".replace(".", "-")
            said = json.dumps(title, ensure_ascii=False)
            rules.append(f"@page {page} {{ @top-left {{ content: {said}; }} }}")
            rules.append(f'[id="{name}"] {{ page: {page}; }}')
    return "\n".join(rules)


def entry(name: str, title: str) -> str:
    """Write a line of the table of contents."""
    return (
        f"<a href='#{name}'><span>{html.escape(title)}</span>"
        "<span class='page-of'></span></a>"
    )


def contents(volume: Volume) -> str:
    """Write the table of contents: parts and chapters, with room for page numbers."""
    lines = []
    for part in volume.parts:
        if part.title == SOLUTIONS:
            lines.append(f"<p class='toc-part'>{entry(part.id, part.title)}</p>")
            continue
        lines.append(f"<p class='toc-part'>{html.escape(part.title)}</p><ul>")
        for one in part.chapters:
            lines.append(f"<li>{entry(one.id, one.title)}</li>")
        lines.append("</ul>")
    return "\n".join(lines)


def document(volume: Volume, static: Path) -> str:
    """Write the whole book as one page of HTML; ``static`` is its ``_static``."""
    sections = []
    for part in volume.parts:
        section = new("section", id=part.id, class_="part")
        for number, chapter in enumerate(part.chapters):
            body = chapter.body
            for level in (5, 4, 3, 2, 1):
                for heading in body.select(f"h{level}"):
                    heading.name = f"h{level + 1}"
            if number == 0:
                # Inside the chapter: its pages have a name, and a part has no page.
                body.insert(0, new("h1", part.title, class_="part-title"))
            section.append(body)
        if part.title == SOLUTIONS:
            section["class"] = "part solutions"
        sections.append(section.decode())
    css = (HERE / "print.css").read_text(encoding="utf-8")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{html.escape(volume.title)}</title>
<style>
{code_colours(static)}
{fonts()}
{css}
{running_heads(volume)}
</style>
<script>window.MathJax = {json.dumps(MATHJAX)}</script>
<script src="{(static / "mathjax" / "tex-chtml.js").as_uri()}"></script>
</head>
<body>
<section class="title-page">
{LOGO.read_text(encoding="utf-8")}
<p class="book-title">{html.escape(volume.title)}</p>
<p class="book-author">{html.escape(volume.author)}</p>
<p class="about">{html.escape(ABOUT)}</p>
<p class="about">© {html.escape(volume.copyright)}. MIT licence.</p>
</section>
<section class="contents"><h1>Contents</h1>
{contents(volume)}
</section>
{"".join(sections)}
</body>
</html>
"""


def page_numbers(pdf: bytes) -> dict[str, int]:
    """Return the page of each id that a link leads to, counted from 1.

    Chromium writes the objects of a PDF in clear text, and only streams packed.
    """
    kids = {
        int(number): re.findall(rb"(\d+) 0 R", listed)
        for number, listed in re.findall(
            rb"(\d+) 0 obj\s<</Type /Pages\s.*?/Kids \[([^]]*)\]", pdf, re.DOTALL
        )
    }
    children = {int(kid) for listed in kids.values() for kid in listed}
    (root,) = set(kids) - children
    pages: list[int] = []

    def walk(node: int) -> None:
        if node not in kids:
            pages.append(node)
        for kid in kids.get(node, []):
            walk(int(kid))

    walk(root)
    order = {node: number for number, node in enumerate(pages, start=1)}
    places = re.findall(rb"/([\w.-]+) \[(\d+) 0 R /XYZ", pdf)
    return {name.decode(): order[int(node)] for name, node in places}


def write_page_numbers(page: Page, numbers: dict[str, int]) -> None:
    """Write the page behind each link that has room for it; 888 where none is known."""
    page.evaluate(
        """([numbers, unknown]) => {
          for (const link of document.querySelectorAll("a:has(> .page-of)")) {
            const id = link.getAttribute("href").slice(1);
            link.querySelector(".page-of").textContent = numbers[id] ?? unknown;
          }
        }""",
        [numbers, UNKNOWN],
    )


def print_pdf(file: Path, browser: str) -> bytes:
    """Print one page of HTML from a file.

    Raises:
        RuntimeError: Mathematics or a picture of the page is broken, or its table of
            contents moves what it points to.
    """
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        page = chromium.new_context(offline=True).new_page()
        page.set_default_timeout(PATIENCE)
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda asked: problems.append(f"no {asked.url}"))
        page.emulate_media(media="print", color_scheme="light")
        page.goto(file.as_uri(), timeout=PATIENCE)
        page.evaluate("MathJax.startup.promise.then(() => document.fonts.ready)")
        problems += page.evaluate((HERE / "fit.js").read_text(encoding="utf-8"))
        if problems:
            raise RuntimeError("; ".join(problems[:5]))
        numbers: dict[str, int] = {}
        for _ in range(3):
            write_page_numbers(page, numbers)
            pdf = page.pdf(
                prefer_css_page_size=True,
                print_background=True,
                outline=True,
                tagged=True,
            )
            before, numbers = numbers, page_numbers(pdf)
            if numbers == before:
                break
        else:
            raise RuntimeError("the numbers of pages do not come to rest")
        chromium.close()
    return pdf


def asked(about: str | None, what: str) -> tuple[Path, Path, str]:
    """Return the built book, the file to write, and a browser, or end with a message.

    Args:
        about: What the command does, for its help.
        what: What it writes.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("html", type=Path, help="folder of the built book")
    parser.add_argument("out", type=Path, help=f"{what} to write")
    options = parser.parse_args()
    browser = find_browser() or sys.exit(MISSING)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    return options.html, options.out, browser


def main() -> None:
    """Make the PDF."""
    html_folder, out, browser = asked(__doc__, "PDF")
    started = time.monotonic()
    volume = read_volume(html_folder, ROOT)
    file = out.with_suffix(".html").absolute()
    file.write_text(document(volume, html_folder.absolute() / "_static"), "utf-8")
    pdf = print_pdf(file, browser)
    out.write_bytes(pdf)
    file.unlink()
    print(f"{out}: {len(pdf) / 1e6:.1f} MB in {time.monotonic() - started:.0f} seconds")


if __name__ == "__main__":
    main()
