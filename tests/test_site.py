"""The documentation site builds without a warning, has no dead link, and works in a browser from a folder, offline.

``make test-docs`` runs this; it skips where the extras ``docs`` and ``browser`` or Chromium are not installed.
"""

from __future__ import annotations

import html.parser
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.blocks import ROOT, navigation

pytest.importorskip("mkdocs", reason="needs the extra docs")
pytest.importorskip("material", reason="needs the extra docs")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]
WIDTHS = (1280, 390)
LOOKED_AT = ("index.html", "guides/train.html", "reference/recipe.html", "reference/python.html", "reliability.html")


class Links(html.parser.HTMLParser):
    """Collect the links of a page and the anchors that it has."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name in ("id", "name") and value:
                self.anchors.add(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built strictly: a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def parsed(site: Path) -> dict[Path, Links]:
    found = {}
    for page in site.rglob("*.html"):
        found[page] = Links()
        found[page].feed(page.read_text(encoding="utf-8"))
    return found


def test_every_page_of_the_navigation_is_built(site: Path) -> None:
    assert [page for page in navigation() if not (site / page).with_suffix(".html").is_file()] == []


def test_no_link_within_the_site_is_dead(parsed: dict[Path, Links]) -> None:
    dead, count = [], 0
    for page, found in parsed.items():
        if page.name == "404.html":  # which a server shows; its links begin at the server's root
            continue
        for link in found.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            count += 1
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            anchors = parsed[target].anchors if target in parsed else set()
            if not target.exists() or (parts.fragment and target in parsed and unquote(parts.fragment) not in anchors):
                dead.append(f"{page.name}: {link}")
    assert count > 1000
    assert dead == []


def test_nothing_is_loaded_from_elsewhere(site: Path, parsed: dict[Path, Links]) -> None:
    """Styles, scripts, fonts and pictures; links that a reader may follow are others."""
    for page in parsed:
        text = page.read_text(encoding="utf-8")
        assert 'src="http' not in text, page
        assert '<link rel="stylesheet" href="http' not in text, page
    assert "@import" not in "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra browser")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no Chromium on the PATH")
    with sync_api.sync_playwright() as started:
        running = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", LOOKED_AT)
def test_no_page_is_wider_than_the_screen(site: Path, browser: Any, name: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 900})
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda asked: faults.append(asked.url) if asked.url.startswith("http") else None)
    page.goto((site / name).as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("h1").first.is_visible()
    assert faults == []
    page.close()


def test_the_search_works_from_a_folder(site: Path, browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((site / "guides/start.html").as_uri())
    page.locator("input.md-search__input").click()
    page.keyboard.type("mcnemar")
    result = page.locator(".md-search-result__link").first
    result.wait_for(timeout=30_000)
    assert "explanation/statistics.html" in " ".join(
        str(link.get_attribute("href")) for link in page.locator(".md-search-result__link").all()
    )
    page.close()
