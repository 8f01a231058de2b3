"""The documentation builds, no link in it leads nowhere, and it asks nothing of any other host."""

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from documentation.pages import DOCS, pages
from tests.docs.blocks import ROOT

# What a browser fetches by itself.
FETCHED = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("link", "href"),
}
FETCHED_RELATIONS = {"stylesheet", "icon", "preload", "preconnect", "modulepreload", "manifest"}
# Named in the theme's scripts: to be fetched for pages that have what ours have not, or not at all.
KNOWN_HOSTS = {
    "unpkg.com": "mermaid pictures, and browsers of before 2020",
    "api.github.com": "a repository's stars; mkdocs.yml names no repository",
    "bit.ly": "a message to developers",
    "clipboardjs.com": "an author, in a comment",
    "lunrjs.com": "the same",
    "tartarus.org": "the same",
}
MADE = pages()
HOST = re.compile(r"https?://([\w.-]+)")


class Page(HTMLParser):
    """What a built page links to, fetches, and can be linked to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.classes |= set(given.get("class", "").split())
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        for name, value in given.items():
            if (tag, name) in FETCHED and (
                tag != "link" or set(given.get("rel", "").split()) & FETCHED_RELATIONS
            ):
                self.fetched.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it as `make site` does, elsewhere."""
    directory = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(directory)],
        cwd=ROOT,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    return directory


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, Page]:
    return {path: Page(path.read_text()) for path in site.rglob("*.html")}


def test_every_page_is_built(built: dict[Path, Page], site: Path) -> None:
    made = {path.relative_to(site).with_suffix(".md").as_posix() for path in built}
    assert {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} == made - {"404.md"}


def test_no_link_leads_nowhere(built: dict[Path, Page], site: Path) -> None:
    def faults() -> Iterator[str]:
        for path, page in built.items():
            for link in page.links + page.fetched:
                parts = urlsplit(link)
                if parts.scheme or parts.netloc:
                    if parts.scheme not in {"http", "https"} or not parts.hostname:
                        yield f"{path.name}: {link} is no address"
                    continue
                within = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                if path.name == "404.html":
                    within = site / parts.path.removeprefix("/")
                within = within / "index.html" if within.is_dir() else within
                if not within.is_file():
                    yield f"{path.name}: {link} leads nowhere"
                elif parts.fragment and unquote(parts.fragment) not in built[within].anchors:
                    yield f"{path.name}: {link} has no such anchor"

    assert not list(faults())
    assert sum(len(page.links) for page in built.values()) > 1_000


def test_reading_it_asks_nothing_of_another_host(built: dict[Path, Page], site: Path) -> None:
    for path, page in built.items():
        assert not [link for link in page.fetched if urlsplit(link).netloc], path
        # The theme would fetch what draws it.
        assert "mermaid" not in page.classes, path
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text().replace('"', "").replace("'", ""), sheet
        assert "@import" not in sheet.read_text(), sheet


def test_the_theme_s_scripts_know_no_other_host_than_we_know_of(site: Path) -> None:
    scripts = [*site.glob("assets/javascripts/*.js"), *site.glob("assets/javascripts/workers/*.js")]
    assert len(scripts) == 2
    named = {host for script in scripts for host in HOST.findall(script.read_text())}
    assert named <= KNOWN_HOSTS.keys()


@pytest.mark.parametrize("name", MADE)
def test_a_page_that_is_made_from_the_code_is_the_one_that_the_code_makes(name: str) -> None:
    assert (DOCS / name).read_text() == MADE[name], "run `make docs`"


def test_no_page_that_was_made_from_the_code_is_left_behind() -> None:
    made = {path.relative_to(DOCS).as_posix() for path in (DOCS / "reference/http").glob("*.md")}
    assert made == {name for name in MADE if name.startswith("reference/http/")}
