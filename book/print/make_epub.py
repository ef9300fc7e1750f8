"""Pack the built book as an EPUB 3.

``python book/print/make_epub.py _build/html X.epub`` reads the pages of the book. Each
chapter becomes one file, and so do the solutions. MathJax, in Chromium, turns
mathematics into MathML, which readers of EPUB show with their own letters.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import json
import mimetypes
import tomllib
import unicodedata
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from playwright.sync_api import sync_playwright

from chromium import FLAGS
from make_pdf import LOGO, MATHJAX, PATIENCE, ROOT, asked, fonts
from volume import ABOUT, SOLUTIONS, Volume, code_colours, new, read_volume, slug

HERE = Path(__file__).parent
COVER = (1200, 1600)
# Letters of these kinds are characters of their own: few readers know the attribute.
ALPHABETS = {
    "bold": ("BOLD",),
    "script": ("SCRIPT",),
    "double-struck": ("DOUBLE-STRUCK",),
    "fraktur": ("FRAKTUR", "BLACK-LETTER"),
    "bold-italic": ("BOLD ITALIC",),
    "sans-serif": ("SANS-SERIF",),
    "monospace": ("MONOSPACE",),
}


@dataclass(frozen=True)
class Text:
    """One file of the EPUB: its name, its title and what stands in its body."""

    name: str
    title: str
    body: Tag

    @property
    def has_mathematics(self) -> bool:
        """Whether it holds MathML, which the list of files must say."""
        return self.body.find("math") is not None


def variant(letter: str, kind: str) -> str:
    """Return the character that is a letter of an alphabet, as 𝐱 is a bold x."""
    name = unicodedata.name(letter, "")
    for word in ("LATIN ", "GREEK ", "LETTER "):
        name = name.replace(word, "")
    for alphabet in ALPHABETS.get(kind, ()):
        # Some were in Unicode before the rest: ℝ is DOUBLE-STRUCK CAPITAL R.
        for whole in (f"MATHEMATICAL {alphabet} {name}", f"{alphabet} {name}"):
            try:
                return unicodedata.lookup(whole)
            except KeyError:
                continue
    return letter


def tex_of(tag: Tag) -> tuple[str, bool]:
    r"""Return the TeX of an element, and whether it is displayed (``\[x\]``)."""
    text = "".join(piece for piece in tag.find_all(string=True, recursive=False))
    text = text.strip()
    return text[2:-2].strip(), text.startswith(r"\[")


def typeset(volume: Volume, static: Path, browser: str) -> bytes:
    """Turn the mathematics of a volume into MathML; returns the picture of its cover.

    Raises:
        RuntimeError: MathJax does not understand a formula.
    """
    tags = [
        tag
        for part in volume.parts
        for chapter in part.chapters
        for tag in chapter.body.select("span.math, div.math")
    ]
    cover = f"""<style>{fonts()}
      body {{ margin: 0; height: 100vh; display: flex; flex-direction: column;
        align-items: center; justify-content: center; gap: 90px; background: #fff;
        font-family: "DejaVu", sans-serif; text-align: center; }}
      svg {{ width: 460px; }} h1 {{ font-size: 92px; margin: 0 60px; }}
      p {{ font-size: 40px; margin: 0; }}</style>
      {LOGO.read_text(encoding="utf-8")}<h1>{html.escape(volume.title)}</h1>
      <p>{html.escape(volume.author)}</p>"""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        page = chromium.new_context(offline=True).new_page()
        page.set_default_timeout(PATIENCE)
        page.set_viewport_size({"width": COVER[0], "height": COVER[1]})
        page.set_content(f"<script>window.MathJax = {json.dumps(MATHJAX)}</script>")
        page.add_script_tag(path=static / "mathjax" / "tex-chtml.js")
        page.evaluate("MathJax.startup.promise")
        found = page.evaluate(
            "list => list.map(([tex, display]) => MathJax.tex2mml(tex, {display}))",
            [tex_of(tag) for tag in tags],
        )
        page.set_content(cover)
        page.evaluate("document.fonts.ready")
        picture = page.screenshot(type="png")
        chromium.close()
    for tag, mathml in zip(tags, found):
        tex, _ = tex_of(tag)
        if "merror" in mathml:
            raise RuntimeError(f"bad mathematics: {tex}")
        math = BeautifulSoup(mathml, "html.parser").find("math")
        assert isinstance(math, Tag)
        math["alttext"] = tex
        simplify(math)
        number = tag.select_one(".eqno")
        tag.clear()
        tag.append(math)
        if number:
            tag.insert(0, number)
    return picture


def simplify(math: Tag) -> None:
    """Write letters of other alphabets as characters, and drop MathJax's own notes."""
    for tag in [math, *math.find_all(True)]:
        for name in [name for name in tag.attrs if name.startswith("data-")]:
            del tag[name]
        kind = str(tag.get("mathvariant", "normal"))
        if kind != "normal" and tag.string:
            tag.string = "".join(variant(letter, kind) for letter in tag.string)
            del tag["mathvariant"]


def texts_of(volume: Volume) -> list[Text]:
    """Divide a volume into files, and let its links name the file they lead to."""
    texts = []
    for part in volume.parts:
        if part.title == SOLUTIONS:
            body = new("section", id=part.id)
            body.append(new("h1", part.title))
            for chapter in part.chapters:
                for heading in chapter.body.select("h1"):
                    heading.name = "h2"
                body.append(chapter.body)
            texts.append(Text(f"{part.id}.xhtml", part.title, body))
        else:
            texts += [
                Text(f"{one.id}.xhtml", one.title, one.body) for one in part.chapters
            ]
    homes = {}
    for text in texts:
        for tag in [text.body, *text.body.select("[id]")]:
            homes[str(tag["id"])] = text.name
    for text in texts:
        for link in text.body.select('a[href^="#"]'):
            target = str(link["href"])[1:]
            if homes[target] != text.name:
                link["href"] = f"{homes[target]}#{target}"
    return texts


def take_pictures(texts: list[Text]) -> dict[str, bytes]:
    """Return the pictures by their names in the EPUB, which the texts then use."""
    pictures: dict[str, bytes] = {}
    for text in texts:
        for image in text.body.select("img"):
            source = str(image["src"])
            if source.startswith("data:image/"):
                kind, _, content = source.removeprefix("data:image/").partition(",")
                data = base64.b64decode(content)
                ending = kind.partition(";")[0]
                name = f"{hashlib.sha256(data).hexdigest()[:16]}.{ending}"
            else:
                path = Path(unquote(urlsplit(source).path))
                name, data = slug(path.name), path.read_bytes()
            name = f"images/{name}"
            if pictures.setdefault(name, data) != data:
                raise ValueError(f"two pictures are called {name}")
            image["src"] = name
    return pictures


def xhtml(title: str, body: str, kind: str = "") -> str:
    """Write one file of XHTML."""
    mark = f' epub:type="{kind}"' if kind else ""
    return f"""<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"
 lang="en" xml:lang="en">
<head>
<meta charset="utf-8"/>
<title>{html.escape(title)}</title>
<link rel="stylesheet" type="text/css" href="book.css"/>
</head>
<body{mark}>
{body}
</body>
</html>
"""


def navigation(volume: Volume) -> str:
    """Write the table of contents: parts, chapters and their sections."""
    lines = ['<nav epub:type="toc" id="toc"><h1>Contents</h1><ol>']
    lines.append('<li><a href="title.xhtml">About this edition</a></li>')
    for part in volume.parts:
        home = f"{part.id}.xhtml" if part.title == SOLUTIONS else ""
        caption = html.escape(part.title)
        label = f'<a href="{home}">{caption}</a>' if home else f"<span>{caption}</span>"
        lines.append(f"<li>{label}<ol>")
        for one in part.chapters:
            file = home or f"{one.id}.xhtml"
            lines.append(f'<li><a href="{file}#{one.id}">{html.escape(one.title)}</a>')
            sections = [
                (str(heading.parent["id"]), heading.get_text(" ", strip=True))
                for heading in one.body.select("section[id] > h2")
                if heading.parent
            ]
            if sections and not home:
                lines.append("<ol>")
                lines += [
                    f'<li><a href="{file}#{name}">{html.escape(title)}</a></li>'
                    for name, title in sections
                ]
                lines.append("</ol>")
            lines.append("</li>")
        lines.append("</ol></li>")
    lines.append("</ol></nav>")
    return xhtml("Contents", "\n".join(lines))


def package(volume: Volume, texts: list[Text], pictures: dict[str, bytes]) -> str:
    """Write the list of all files, with the title and the order of reading."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "version"
    ]
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"{volume.title} {version}")
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    items = [
        '<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" '
        'properties="nav"/>',
        '<item id="css" href="book.css" media-type="text/css"/>',
        '<item id="cover" href="cover.png" media-type="image/png" '
        'properties="cover-image"/>',
        '<item id="title" href="title.xhtml" media-type="application/xhtml+xml"/>',
    ]
    for text in texts:
        kind = ' properties="mathml"' if text.has_mathematics else ""
        items.append(
            f'<item id="{text.name}" href="{text.name}" '
            f'media-type="application/xhtml+xml"{kind}/>'
        )
    for number, picture in enumerate(pictures):
        media = mimetypes.guess_type(picture)[0]
        items.append(
            f'<item id="picture-{number}" href="{picture}" media-type="{media}"/>'
        )
    spine = "\n".join(
        f'<itemref idref="{name}"/>'
        for name in ["title", "nav", *(text.name for text in texts)]
    )
    return f"""<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="name"
 xml:lang="en">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="name">urn:uuid:{name}</dc:identifier>
<dc:title>{html.escape(volume.title)}</dc:title>
<dc:creator>{html.escape(volume.author)}</dc:creator>
<dc:language>en</dc:language>
<dc:rights>© {html.escape(volume.copyright)}. MIT licence.</dc:rights>
<meta property="dcterms:modified">{now}</meta>
</metadata>
<manifest>
{chr(10).join(items)}
</manifest>
<spine>
{spine}
</spine>
</package>
"""


CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0">
<rootfiles>
<rootfile full-path="EPUB/package.opf" media-type="application/oebps-package+xml"/>
</rootfiles>
</container>
"""


def write_epub(volume: Volume, static: Path, out: Path, browser: str) -> None:
    """Write a volume as an EPUB; ``static`` is the folder ``_static`` of the book."""
    cover = typeset(volume, static, browser)
    contents = navigation(volume)
    texts = texts_of(volume)
    pictures = take_pictures(texts)
    title = f"<h1>{html.escape(volume.title)}</h1><p>{html.escape(volume.author)}</p>"
    title += f"<p>{html.escape(ABOUT)}</p>"
    style = code_colours(static) + "\n"
    style += (HERE / "epub.css").read_text(encoding="utf-8")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        # First and unpacked, so that its bytes tell what the file is.
        file.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        file.writestr("META-INF/container.xml", CONTAINER)
        file.writestr("EPUB/package.opf", package(volume, texts, pictures))
        file.writestr("EPUB/nav.xhtml", contents)
        file.writestr("EPUB/book.css", style)
        file.writestr("EPUB/cover.png", cover, zipfile.ZIP_STORED)
        file.writestr("EPUB/title.xhtml", xhtml(volume.title, title, "titlepage"))
        for text in texts:
            body = text.body.decode(formatter="minimal")
            file.writestr(f"EPUB/{text.name}", xhtml(text.title, body))
        for name, data in pictures.items():
            file.writestr(f"EPUB/{name}", data, zipfile.ZIP_STORED)


def main() -> None:
    """Make the EPUB."""
    html_folder, out, browser = asked(__doc__, "EPUB")
    write_epub(read_volume(html_folder, ROOT), html_folder / "_static", out, browser)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
