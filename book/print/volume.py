"""The built pages of the book, made ready for paper: one volume of chapters.

A page loses what only a screen can use: bars, buttons, folded code, scripts. Solutions
move to a part of their own at the end, and each is linked with its exercise. Ids become
unique in the whole volume, and a link between two pages becomes a link between two ids.
"""

from __future__ import annotations

import copy
import posixpath
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

# The pages of this part are not printed: they are looked up, not read.
LEFT_OUT = "The library"
SOLUTIONS = "Solutions"
ABOUT = (
    "This edition was made from the pages of the book. It shows their code, except the "
    "cells that a page folds, which draw figures or prepare them. Figures with sliders "
    "show the position in which they start. The solutions of the exercises are at the "
    "end. The pages of the library's functions are left out. The notebooks, the folded "
    "code and the library pages are in the book on the screen, which the command "
    "“make book” builds."
)

SCREEN_ONLY = (
    "a.headerlink, script, style, button, noscript, link, .toctree-wrapper, "
    # Folded code, and the copies of diagrams that are for telephones.
    "details.hide.above-input, img[src$='_stacked.png']"
)
ANSWERS = "div.solution, details.sd-dropdown"


@dataclass
class Chapter:
    """A page of the book.

    Its elements have one parent, a ``section`` with the id of the chapter, and one
    ``h1``.
    """

    id: str
    title: str
    body: Tag


@dataclass
class Part:
    """Chapters under one caption of the table of contents."""

    id: str
    title: str
    chapters: list[Chapter] = field(default_factory=list)


@dataclass
class Volume:
    """The whole book; the last part holds the solutions, if there are any."""

    title: str
    author: str
    copyright: str
    parts: list[Part]


def code_colours(static: Path) -> str:
    """Return the CSS that colours code, on a light page; ``static``: ``_static``."""
    light = 'html[data-theme="light"] '
    lines = (static / "pygments.css").read_text(encoding="utf-8").split("\n")
    return "\n".join(
        line.removeprefix(light) for line in lines if line.startswith(light)
    )


def slug(text: str) -> str:
    """Letters, digits, dots and hyphens: an id in HTML, XML and PDF alike."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-")


def anchor(page: str, fragment: str = "") -> str:
    """The id in the volume of a page, or of what has an id on it."""
    # A letter comes first, as XML demands.
    return f"p-{slug(page)}" + (f"--{slug(fragment)}" if fragment else "")


def new(name: str, text: str = "", **attributes: str) -> Tag:
    """Make an element; ``class_`` stands for ``class``."""
    named = {key.rstrip("_"): value for key, value in attributes.items()}
    made = BeautifulSoup("", "html.parser").new_tag(name, attrs=named)
    if text:
        made.string = text
    return made


def read_volume(html: Path, source: Path) -> Volume:
    """Assemble the pages in ``html`` by ``_toc.yml`` and ``_config.yml`` of ``source``.

    Raises:
        FileNotFoundError: A page of the table of contents was not built.
    """
    toc = yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8"))
    config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    plan = [("", [toc["root"]])]
    for part in toc["parts"]:
        if part["caption"] != LEFT_OUT:
            plan.append((part["caption"], [one["file"] for one in part["chapters"]]))
    # The first page is part of the first part.
    (_, first), (caption, files), *rest = plan
    plan = [(caption, first + files), *rest]
    printed = [page for _, pages in plan for page in pages]

    parts, solutions = [], Part("solutions", SOLUTIONS)
    for caption, pages in plan:
        part = Part(f"part-{slug(caption)}", caption)
        for page in pages:
            chapter, solved = read_page(html, page, printed)
            part.chapters.append(chapter)
            solutions.chapters += [solved] if solved else []
        parts.append(part)
    volume = Volume(
        config["title"],
        config["author"],
        config["copyright"],
        parts + ([solutions] if solutions.chapters else []),
    )
    mend_links(volume)
    return volume


def read_page(
    html: Path, page: str, printed: list[str]
) -> tuple[Chapter, Chapter | None]:
    """Read one built page: its chapter and the solutions that were taken from it."""
    file = html / f"{page}.html"
    soup = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
    article = soup.select_one("article.bd-article")
    if article is None:
        raise ValueError(f"{file}: no article in this page; build it by `make book`")
    for gone in article.select(SCREEN_ONLY):
        gone.decompose()
    for box in article.select("div.cell, figcaption p, figcaption .legend"):
        if not box.decomposed and not box.get_text(strip=True) and not box.find("img"):
            box.decompose()
    unique_ids(article, page)
    point_inside(article, page, printed)
    for image in article.select("img[src]"):
        image.attrs.pop("loading", None)
        if str(image["src"]).startswith("data:"):
            continue
        path = file.parent / unquote(str(image["src"]))
        image["src"] = path.resolve().as_uri()
    title_tag = article.select_one("h1")
    if title_tag is None:
        raise ValueError(f"{file}: the page has no title")
    title = title_tag.get_text(" ", strip=True)
    solved = take_solutions(article, page, title)
    unfold(article)
    for old in article.select("table[border], th[valign]"):
        old.attrs.pop("border", None)
        old.attrs.pop("valign", None)
    body = new("section", id=anchor(page), class_="chapter")
    body.extend(list(article.contents))
    return Chapter(anchor(page), title, body), solved


def unique_ids(article: Tag, page: str) -> None:
    """Prefix every id by its page; the second of two equal ids goes."""
    seen = set()
    for tag in article.select("[id]"):
        name = anchor(page, str(tag["id"]))
        if name in seen:
            del tag["id"]
        else:
            seen.add(name)
            tag["id"] = name
    for tag in article.select("[aria-describedby], [aria-labelledby]"):
        tag.attrs.pop("aria-describedby", None)
        tag.attrs.pop("aria-labelledby", None)


def point_inside(article: Tag, page: str, printed: list[str]) -> None:
    """Let links to printed pages point to their ids; links to others become text."""
    for link in article.select("a[href]"):
        href = str(link["href"])
        if urlsplit(href).scheme or href.startswith("//"):
            continue
        path, fragment = urldefrag(href)
        here = posixpath.dirname(page)
        target = page
        if path:
            target = posixpath.normpath(posixpath.join(here, unquote(path)))
            target = target.removesuffix(".html")
        if target in printed:
            link["href"] = "#" + anchor(target, unquote(fragment))
            link.attrs.pop("title", None)
        else:
            link.unwrap()


def mend_links(volume: Volume) -> None:
    """Let links to what was left out point to the chapter it belonged to."""
    bodies = [chapter.body for part in volume.parts for chapter in part.chapters]
    ids = {str(tag["id"]) for body in bodies for tag in body.select("[id]")}
    ids |= {str(body["id"]) for body in bodies}
    for body in bodies:
        for link in body.select('a[href^="#"]'):
            target = str(link["href"])[1:]
            if target not in ids:
                link["href"] = "#" + target.partition("--")[0]


def take_solutions(article: Tag, page: str, title: str) -> Chapter | None:
    """Move solutions and answers out of a page, with links in both directions."""
    name = f"solutions-{slug(page)}"
    body = new("section", id=name, class_="chapter")
    heading = new("h1")
    heading.append(new("a", title, href="#" + anchor(page)))
    body.append(heading)
    answers = 0
    for found in article.select(ANSWERS):
        if found.name == "details":
            summary = found.select_one("summary")
            if summary is None or summary.get_text(strip=True) != "Answer":
                continue
            answers += 1
            solution = new("div", id=f"{name}--{answers}", class_="solution")
            question = f"{name}--question-{answers}"
            heading = new("p", class_="solution-title")
            heading.append(page_link(f"Answer {answers}", question))
            solution.append(heading)
            summary.decompose()
            solution.extend(list(found.contents))
            mark = new("p", id=question, class_="to-solution")
            mark.append(page_link(f"Answer {answers}", str(solution["id"])))
            found.replace_with(mark)
        else:
            solution = copy.copy(found)
            solution["class"] = "solution"
            heading_found = solution.select_one(".admonition-title")
            link = heading_found and heading_found.select_one("a[href]")
            if not heading_found or not link:
                raise ValueError(f"{page}: a solution names no exercise")
            heading_found["class"] = "solution-title"
            exercise = article.find(id=str(link["href"])[1:])
            if not isinstance(exercise, Tag):
                raise ValueError(f"{page}: no exercise {link['href']}")
            text = link.get_text(" ", strip=True)
            link.string = re.sub(r"\s+", " ", text)
            link.append(new("span", class_="page-of"))
            heading_found.clear()
            heading_found.append(link)
            mark = new("p", class_="to-solution")
            mark.append(page_link("Solution", str(solution["id"])))
            exercise.append(mark)
            found.decompose()
        body.append(solution)
    return Chapter(name, title, body) if len(body.contents) > 1 else None


def page_link(text: str, target: str) -> Tag:
    """Link to an id; the page it is on can be written behind it."""
    link = new("a", text, href="#" + target)
    link.append(new("span", class_="page-of"))
    return link


def unfold(article: Tag) -> None:
    """Show what other folds hold, under their titles."""
    for fold in article.select("details"):
        box = new("div", class_="unfolded")
        summary = fold.select_one("summary")
        if summary is not None:
            # A fold of a cell says "Show code cell output", and "Hide" when it is open.
            said = summary.select_one(".collapsed") or summary
            title = said.get_text(" ", strip=True).removeprefix("Show code cell ")
            title = title[:1].upper() + title[1:]
            box.append(new("p", title, class_="fold-title"))
            summary.decompose()
        box.extend(list(fold.contents))
        if fold.get("id"):
            box["id"] = str(fold["id"])
        fold.replace_with(box)
