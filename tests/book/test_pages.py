"""Every page of the table of contents is there, complete and well linked."""

from __future__ import annotations

import gc
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(parse_toc_yaml(ROOT / "_toc.yml"))


@pytest.fixture(scope="module")
def pages(build) -> Iterator[dict[str, BeautifulSoup]]:
    """The built pages by document name."""
    # Millions of objects, all in use: to look for unused ones is in vain.
    gc.disable()
    pages = {
        name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        for name in DOCUMENTS
        if (path := build.html / f"{name}.html").is_file()
    }
    gc.freeze()
    gc.enable()
    yield pages
    gc.unfreeze()


def test_the_book_builds_without_a_warning(build):
    warnings = [line for line in build.output.split("\n") if "WARNING" in line]
    assert warnings == []
    assert build.returncode == 0, build.output[-3000:]


def test_every_entry_of_the_table_of_contents_has_its_page(build, pages):
    # The exit status alone proves nothing: a Jupyter Book of another major version
    # ignores _config.yml, builds no page and still exits with 0.
    assert (build.html / "index.html").is_file(), build.output[-3000:]
    assert sorted(pages) == DOCUMENTS


def test_every_page_and_notebook_is_in_the_table_of_contents():
    written = [*ROOT.glob("book/**/*.md"), *ROOT.glob("notebooks/*.ipynb")]
    names = {path.relative_to(ROOT).with_suffix("").as_posix() for path in written}
    assert names == set(DOCUMENTS)


def test_a_chapter_shows_its_stored_outputs(pages):
    missing = []
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        page = pages[f"notebooks/{path.stem}"]
        if page.find(string="Executed on this machine"):
            continue  # rendered by `make live`
        shown = page.select_one("article").get_text()
        for cell in nbformat.read(path, as_version=4).cells:
            if "remove-cell" in cell.metadata.get("tags", []):
                continue  # claims and the numbers behind figures, for nbval alone
            for output in cell.get("outputs", []):
                text = output.get("text", "").strip()
                if text and text not in shown:
                    missing.append(f"{path.stem}, {cell.id}: {text[:80]}")
    assert missing == []


def test_every_page_has_one_title(pages):
    titles = {
        name: [title.get_text() for title in page.select("article h1")]
        for name, page in pages.items()
    }
    assert {name: found for name, found in titles.items() if len(found) != 1} == {}


def test_every_link_inside_the_book_leads_somewhere(build, pages):
    broken = []
    anchors: dict[Path, set[str]] = {}
    for name, page in pages.items():
        here = build.html / f"{name}.html"
        for link in page.find_all("a", href=True):
            href = link["href"]
            if urlsplit(href).scheme or href.startswith("//") or href == "#":
                continue
            path, fragment = urldefrag(href)
            target = (here.parent / unquote(path)).resolve() if path else here
            if not target.is_file():
                broken.append(f"{name}: {href}")
            elif fragment and target.suffix == ".html":
                if target not in anchors:
                    text = target.read_text(encoding="utf-8")
                    anchors[target] = set(re.findall(r'\sid="([^"]+)"', text))
                if unquote(fragment) not in anchors[target]:
                    broken.append(f"{name}: {href}")
    assert broken == []


def test_every_image_says_what_it_shows(pages):
    # A notebook's figure gets its text from the metadata of its cell:
    # {"mystnb": {"image": {"alt": "..."}}}. Without it, Sphinx writes the file name.
    silent = [
        f"{name}: {image.get('src')}"
        for name, page in pages.items()
        for image in page.select("article img")
        if len(image.get("alt", "")) < 5 or image["alt"].endswith((".png", ".svg"))
    ]
    assert silent == []


def test_nothing_is_loaded_from_another_host(pages):
    foreign = [
        f"{name}: {tag.get('src') or tag.get('href')}"
        for name, page in pages.items()
        for tag in page.select("script[src], img[src], iframe[src], link[href]")
        if urlsplit(tag.get("src") or tag.get("href")).netloc
    ]
    assert foreign == []


def test_no_page_names_the_folder_it_was_built_in(pages):
    told = [name for name, page in pages.items() if str(ROOT) in page.get_text()]
    assert told == []


def test_the_library_pages_hold_every_public_name(pages):
    missing = []
    for init in sorted(ROOT.glob("reidlib/*/__init__.py")):
        package = importlib.import_module(f"reidlib.{init.parent.name}")
        page = pages.get(f"book/api/{init.parent.name}")
        for name in getattr(package, "__all__", []):
            value = getattr(package, name)
            if not (inspect.isclass(value) or inspect.isfunction(value)):
                continue
            if page is None or not page.find(id=f"{package.__name__}.{name}"):
                missing.append(f"{package.__name__}.{name}")
    assert missing == []
