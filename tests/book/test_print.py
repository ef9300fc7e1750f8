"""The book for paper and for electronic readers, made from a few pages by hand."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from pathlib import Path
from urllib.parse import urldefrag
from xml.etree import ElementTree

import pytest
from browser import find_browser
from bs4 import BeautifulSoup
from PIL import Image

from make_epub import tex_of, typeset, variant, write_epub
from make_pdf import document, page_numbers, print_pdf
from volume import ABOUT, read_volume

ROOT = Path(__file__).parents[2]
MATHJAX = ROOT / "book" / "_static" / "mathjax"
TOC = """
root: book/intro
parts:
  - caption: Start
    chapters:
      - file: book/need
  - caption: Foundations
    chapters:
      - file: notebooks/one
  - caption: The library
    chapters:
      - file: book/api/index
"""
CONFIG = "title: A small book\nauthor: Nobody & Co\ncopyright: '2026'\n"

INTRO = """<section id="welcome">
<h1>Welcome<a class="headerlink" href="#welcome">#</a></h1>
<p>Start with <a href="../notebooks/one.html#first">the first section</a>, look up
<a href="api/index.html#f">a function</a>, visit
<a href="https://example.org">a site</a>.</p></section>"""
NEED = r"""<section id="need"><h1>What you need</h1><p>What is 1 + 1?</p>
<details class="sd-dropdown"><summary><span>Answer</span></summary>
<div><p>It is <span class="math">\(2\)</span>.</p></div></details>
<details class="sd-dropdown"><summary>All values</summary><p>1, 2, 3</p></details>
</section>"""
WIDE = "".join(f"<td><code>a_long_name_{n}</code></td>" for n in range(30))
LONG = "x = " + " + ".join(f"number_{n}" for n in range(40))
buffer = io.BytesIO()
Image.new("RGB", (4, 4), "red").save(buffer, "png")
INSIDE = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
ONE = rf"""<section class="mathjax_ignore" id="chapter"><h1>One: a &lt;chapter&gt;</h1>
<section id="first"><h2>First</h2>
<p>An <span id="id1"></span>equation, and the sign &amp;.</p>
<div class="math" id="equation-e1"><span class="eqno">(1)<a class="headerlink"
href="#equation-e1">#</a></span>\[\mathbf c = \sum_i x_i < \mathcal L\]</div>
<div class="cell tag_hide-input"><details class="admonition hide above-input"><summary>
<p>Show code</p></summary><pre>import hidden</pre></details></div>
<details class="admonition hide below-input"><summary>
<p class="collapsed">Show code cell output</p>
<p class="expanded">Hide code cell output</p></summary><pre>guessed</pre></details>
<div class="cell"><div class="cell_input"><pre>{LONG}</pre></div>
<div class="cell_output">
<img alt="a blue square" src="../_images/blue%20square.png"></div></div>
<table border="1"><tbody><tr>{WIDE}</tr></tbody></table>
<figure class="sliders"><div class="live-static"><p>alpha 0.4</p>
<img alt="a red point" src="{INSIDE}"></div>
<script>alert(1)</script></figure>
<p id="id1">A second use of an id.<br></p></section>
<section id="exercises"><h2>Exercises</h2>
<div class="exercise admonition" id="ex-sum">
<p class="admonition-title">Exercise 1 (A sum)</p>
<section id="exercise-content"><p>How much?</p></section></div>
<div class="solution dropdown admonition" id="notebooks/one-solution-1">
<p class="admonition-title">Solution to<a href="#ex-sum"> Exercise 1 (A sum)</a></p>
<section id="solution-content">
<p>So much: see <a href="#equation-e1">(1)</a>.</p></section>
</div></section></section>"""
FRAME = """<html><body><nav>side bar</nav>
<article class="bd-article">{}</article></body>
</html>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A book: what Jupyter Book reads, and what it would build."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "_toc.yml").write_text(TOC)
    (folder / "_config.yml").write_text(CONFIG)
    pages = {"book/intro": INTRO, "book/need": NEED, "notebooks/one": ONE}
    for name, text in pages.items():
        file = folder / "html" / f"{name}.html"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(FRAME.format(text), encoding="utf-8")
    (folder / "html" / "_images").mkdir()
    picture = Image.new("RGB", (300, 200), "blue")
    picture.save(folder / "html" / "_images" / "blue square.png")
    static = folder / "html" / "_static"
    static.mkdir()
    (static / "mathjax").symlink_to(MATHJAX)
    light, dark = (f'html[data-theme="{name}"] .k ' for name in ("light", "dark"))
    (static / "pygments.css").write_text(
        f"{light}{{color: green}}\n{dark}{{color: red}}"
    )
    return folder


@pytest.fixture
def volume(folder):
    return read_volume(folder / "html", folder)


def titles(volume):
    parts = volume.parts
    return [one.title for part in parts for one in (part, *part.chapters)]


def chapters(volume):
    return {one.id: one for part in volume.parts for one in part.chapters}


def test_the_volume_has_the_parts_of_the_contents_and_solutions_last(volume):
    assert (volume.title, volume.author) == ("A small book", "Nobody & Co")
    assert [
        (part.title, [one.title for one in part.chapters]) for part in volume.parts
    ] == [
        ("Start", ["Welcome", "What you need"]),
        ("Foundations", ["One: a <chapter>"]),
        ("Solutions", ["What you need", "One: a <chapter>"]),
    ]


def test_only_what_can_be_read_on_paper_is_left(volume):
    text = " ".join(one.body.get_text(" ") for one in chapters(volume).values())
    for gone in ("#", "side bar", "Show code", "hidden", "alert", "Answer to"):
        assert gone not in text
    for kept in ("alpha 0.4", "number_39", "All values", "1, 2, 3", "a_long_name_29"):
        assert kept in text
    one = chapters(volume)["p-notebooks-one"].body
    assert not one.select(".tag_hide-input")
    assert one.select_one(".unfolded").get_text(" ", strip=True) == "Output guessed"


def test_solutions_are_at_the_end_and_linked_with_their_exercises(volume):
    found = chapters(volume)
    one, solved = found["p-notebooks-one"].body, found["solutions-notebooks-one"].body
    assert "So much" not in one.get_text()
    assert "So much" in solved.get_text()
    exercise = one.select_one(".exercise")
    solution = solved.select_one(".solution")
    assert exercise.select_one(".to-solution a")["href"] == f"#{solution['id']}"
    back = solution.select_one(".solution-title a")
    assert back["href"] == f"#{exercise['id']}"
    assert back.get_text(strip=True) == "Exercise 1 (A sum)"
    need, answers = found["p-book-need"].body, found["solutions-book-need"].body
    assert "It is" not in need.get_text()
    link = need.select_one(".to-solution a")
    answer = answers.find(id=link["href"][1:])
    assert "It is" in answer.get_text()
    assert need.find(id=answer.a["href"][1:]).a is link


def test_ids_are_unique_and_links_lead_to_them(volume):
    bodies = [one.body for one in chapters(volume).values()]
    ids = [tag["id"] for body in bodies for tag in [body, *body.select("[id]")]]
    assert len(ids) == len(set(ids))
    assert [name for name in ids if not re.fullmatch(r"[a-z][\w.-]*", name)] == []
    links = [link for body in bodies for link in body.select("a[href]")]
    hrefs = [link["href"] for link in links]
    assert "https://example.org" in hrefs
    assert "#p-notebooks-one--first" in hrefs
    assert "#p-notebooks-one--equation-e1" in hrefs
    inside = [href for href in hrefs if not href.startswith("https:")]
    assert [href for href in inside if href[1:] not in ids] == []
    # The page of the function is not printed: its name stays, the link goes.
    intro = chapters(volume)["p-book-intro"].body
    assert "a function" in intro.get_text()
    assert "a function" not in [link.get_text() for link in intro.select("a")]


def test_a_page_that_was_not_built_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"book/intro\.html"):
        read_volume(tmp_path, folder)


def outline(pdf: bytes) -> list[str]:
    """The titles of the bookmarks of a PDF, sorted."""
    titles = re.findall(
        rb"/Title (?:\(([^)]*)\)|<([0-9A-F]+)>)\s*/(?:Dest|Parent)", pdf
    )
    return sorted(
        plain.decode("latin-1") or bytes.fromhex(packed.decode()).decode("utf-16")
        for plain, packed in titles
    )


def test_it_is_printed_with_page_numbers_bookmarks_and_nothing_cut_off(
    folder, volume, tmp_path
):
    browser = find_browser()
    file = tmp_path / "book.html"
    file.write_text(document(volume, folder / "html" / "_static"), encoding="utf-8")
    pdf = print_pdf(file, browser)
    # Title, contents, three chapters on a page each (the wide table may need a second
    # page), solutions.
    count = len(re.findall(rb"/Type /Page\s", pdf))
    numbers = page_numbers(pdf)
    names = [*chapters(volume)][:3]
    assert [numbers[name] for name in names] == [3, 4, 5]
    assert numbers["solutions"] == count
    assert 6 <= count <= 7
    assert numbers["p-notebooks-one--equation-e1"] == 5
    sections = ["First", "Exercises"]
    expected = ["Contents", *sections, *titles(volume)]
    assert outline(pdf) == sorted(expected)
    assert str(tmp_path).encode() not in pdf


def test_broken_mathematics_is_not_printed(folder, volume, tmp_path):
    browser = find_browser()
    body = chapters(volume)["p-notebooks-one"].body
    body.select_one(".math").string = r"\[\nosuchcommand{x}\]"
    file = tmp_path / "book.html"
    file.write_text(document(volume, folder / "html" / "_static"), encoding="utf-8")
    with pytest.raises(RuntimeError, match="bad mathematics"):
        print_pdf(file, browser)
    with pytest.raises(RuntimeError, match="bad mathematics"):
        typeset(volume, folder / "html" / "_static", browser)


@pytest.mark.parametrize(
    ("letter", "kind", "expected"),
    [
        ("c", "bold", "𝐜"),
        ("7", "bold", "𝟕"),
        ("μ", "bold", "𝛍"),
        ("L", "script", "ℒ"),
        ("A", "script", "𝒜"),
        ("R", "double-struck", "ℝ"),
        ("1", "double-struck", "𝟙"),
        ("x", "unknown", "x"),
        ("+", "bold", "+"),
    ],
)
def test_letters_of_other_alphabets_are_characters(letter, kind, expected):
    assert variant(letter, kind) == expected


def test_tex_is_found_beside_the_number_of_an_equation():
    tag = BeautifulSoup(
        r'<div class="math"><span class="eqno">(3)</span>\[a < b\]</div>', "html.parser"
    )
    assert tex_of(tag.div) == ("a < b", True)


XHTML = "{http://www.w3.org/1999/xhtml}"
OPF = "{http://www.idpf.org/2007/opf}"


def test_the_epub_is_well_formed_complete_and_linked(folder, volume, tmp_path):
    file = tmp_path / "book.epub"
    write_epub(volume, folder / "html" / "_static", file, find_browser())
    with zipfile.ZipFile(file) as packed:
        entries = packed.infolist()
        content = {entry.filename: packed.read(entry) for entry in entries}
    assert entries[0].filename == "mimetype"
    assert entries[0].compress_type == zipfile.ZIP_STORED
    assert content["mimetype"] == b"application/epub+zip"

    package = ElementTree.fromstring(content["EPUB/package.opf"])
    items = {item.get("id"): item for item in package.iter(f"{OPF}item")}
    listed = {f"EPUB/{item.get('href')}" for item in items.values()}
    assert listed == {name for name in content if name.startswith("EPUB/")} - {
        "EPUB/package.opf"
    }
    spine = [
        items[ref.get("idref")].get("href") for ref in package.iter(f"{OPF}itemref")
    ]
    assert spine == [
        "title.xhtml",
        "nav.xhtml",
        "p-book-intro.xhtml",
        "p-book-need.xhtml",
        "p-notebooks-one.xhtml",
        "solutions.xhtml",
    ]

    trees = {name: ElementTree.fromstring(content[f"EPUB/{name}"]) for name in spine}
    ids = {
        name: [tag.get("id") for tag in tree.iter() if tag.get("id")]
        for name, tree in trees.items()
    }
    assert all(len(found) == len(set(found)) for found in ids.values())
    broken = []
    for name, tree in trees.items():
        for link in tree.iter(f"{XHTML}a"):
            target, fragment = urldefrag(link.get("href"))
            if target.startswith("https:"):
                continue
            if fragment not in ["", *ids.get(target or name, [])] or (
                target and target not in trees
            ):
                broken.append(f"{name}: {link.get('href')}")
        for image in tree.iter(f"{XHTML}img"):
            if f"EPUB/{image.get('src')}" not in content:
                broken.append(f"{name}: {image.get('src')}")
    assert broken == []
    assert b"fold" in content["EPUB/title.xhtml"]
    assert "fold" in ABOUT

    chapter = content["EPUB/p-notebooks-one.xhtml"].decode()
    assert "<mi>𝐜</mi>" in chapter
    assert "ℒ" in chapter
    assert r"\[" not in chapter
    mathematical = {
        item.get("href")
        for item in items.values()
        if item.get("properties") == "mathml"
    }
    assert mathematical == {
        name for name, tree in trees.items() if b"<math" in content[f"EPUB/{name}"]
    }
    assert ".k {color: green}" in content["EPUB/book.css"].decode()
    assert "red" not in content["EPUB/book.css"].decode()
