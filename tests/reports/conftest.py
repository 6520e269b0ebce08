"""Fixtures of a real browser; only tests marked ``browser`` ask for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.reports.browsing import CHROMIUM, Visit


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra 'browser': make test-report")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM)
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Opens pages; afterwards none of them may have asked for anything else or have said a word."""
    visits: list[Visit] = []

    def start(**options: Any) -> Visit:
        visits.append(Visit(browser, **options))
        return visits[-1]

    yield start
    for each in visits:
        if each.page.url == "about:blank":
            continue
        assert [address.partition("#")[0] for address in each.requests] == [each.page.url.partition("#")[0]]
        assert each.noise == []
        each.close()
