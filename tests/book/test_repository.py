"""Links into the repository come from one place, and lead to files that are here."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup
from docutils.core import publish_parts
from docutils.parsers.rst import directives
from pygments.lexers import PythonLexer
from pygments.token import Error
from sphinx_external_toc.parsing import parse_toc_yaml

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted(d for d in parse_toc_yaml(ROOT / "_toc.yml") if "notebooks/" in d)
PLANTED = "https://github.com/someone/some-course"
PREPARES = """\
# In Colab: fetch the course and its library. Anywhere else nothing happens.
import sys

if "google.colab" in sys.modules:
    %cd -q /content
    %sx test -d reid-course || git clone -q '{}' reid-course
    %pip install -q "./reid-course[infomap,gallery,video]"
    %cd -q reid-course/notebooks

"""


@pytest.fixture
def book(monkeypatch):
    """The extension of the book."""
    monkeypatch.syspath_prepend(ROOT / "book" / "extensions")
    return importlib.import_module("reidlib_book")


@pytest.fixture
def places(book):
    """The module that knows the address."""
    return importlib.import_module("repository")


def planted(url, folder, branch="main", inside=""):
    path = folder / "_config.yml"
    path.write_text(
        f"title: x\nrepository:\n  url: {url!r}\n  branch: {branch}\n"
        f"  path_to_book: {inside!r}\n"
    )
    return path


@pytest.mark.parametrize("page", CHAPTERS)
@pytest.mark.parametrize("ending", ["", "/", ".git"])
def test_a_chapters_link_leads_to_its_file(places, tmp_path, page, ending):
    place = places.repository(planted(PLANTED + ending, tmp_path))
    link = places.colab_link(f"{page}.ipynb", place)
    start = "https://colab.research.google.com/github/someone/some-course/blob/main/"
    assert link.startswith(start)
    assert (ROOT / unquote(link.removeprefix(start))).is_file()


def test_a_branch_and_a_folder_are_part_of_the_link(places, tmp_path):
    place = places.repository(planted(PLANTED, tmp_path, "v2", "./course/"))
    link = places.colab_link("notebooks/one.ipynb", place)
    assert link.endswith("/some-course/blob/v2/course/notebooks/one.ipynb")


@pytest.mark.parametrize("url", ["", "https://gitlab.com/a/b", "https://github.com/a"])
def test_there_is_no_link_that_would_lead_nowhere(places, tmp_path, url):
    place = places.repository(planted(url, tmp_path))
    assert places.colab_link("notebooks/one.ipynb", place) is None


@pytest.mark.parametrize("url", ["", PLANTED])
def test_the_card_shows_the_link_where_there_is_an_address(
    book, places, tmp_path, monkeypatch, url
):
    place = places.repository(planted(url, tmp_path))
    monkeypatch.setattr(book, "repository", lambda: place)

    class Environment:
        """What the card asks Sphinx for."""

        docname = "notebooks/attention"

        def doc2path(self, name):
            return str(ROOT / f"{name}.ipynb")

        def note_dependency(self, path):
            assert Path(path).is_file()

    monkeypatch.setattr(book.ChapterCard, "env", Environment())
    directives.register_directive("chapter-card", book.ChapterCard)
    source = ".. chapter-card::\n\n   What it is about."
    page = publish_parts(source, writer_name="html5")["body"]
    links = BeautifulSoup(page, "html.parser").select("p.colab a")
    wanted = [places.colab_link("notebooks/attention.ipynb", place)] if url else []
    assert [link["href"] for link in links] == wanted


def test_every_copy_of_the_address_is_that_of_the_configuration(places):
    wanted = places.repository()["url"] or places.UNKNOWN
    for path in places.places():
        found = places.COMMAND.findall(path.read_text(encoding="utf-8"))
        assert found, path.name
        told = "python book/extensions/repository.py writes it"
        assert {address for _, address, _ in found} == {wanted}, f"{path.name}: {told}"


def test_another_address_replaces_the_earlier_one(places):
    text = (ROOT / "book" / "setup.md").read_text(encoding="utf-8")
    first = places.with_address(text, PLANTED)
    assert f"git clone {PLANTED} reid-course" in first
    assert places.UNKNOWN not in first
    assert places.with_address(first, places.UNKNOWN) == places.with_address(
        text, places.UNKNOWN
    )


@pytest.mark.parametrize("page", CHAPTERS)
def test_the_first_cell_of_a_chapter_prepares_colab(places, page):
    cells = nbformat.read(ROOT / f"{page}.ipynb", as_version=4).cells
    first = next(cell.source for cell in cells if cell.cell_type == "code")
    address = re.search(places.COMMAND, first)[2]
    assert first.startswith(PREPARES.format(address))
    # The book's lexer is that of Python: an error would be a warning of the build.
    assert Error not in {kind for kind, _ in PythonLexer().get_tokens(first)}
