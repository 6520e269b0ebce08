"""A page in a real browser: Chromium, driven by Playwright. ``make test-report`` installs what this needs."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HAS_PLAYWRIGHT = importlib.util.find_spec("playwright") is not None
IN_A_BROWSER = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(not HAS_PLAYWRIGHT, reason="needs the extra 'browser': make test-report"),
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium"),
]


class Visit:
    """A page opened in a browser without a network, and what it did that it should not.

    Attributes:
        page: Playwright's page.
        requests: Addresses of everything that was asked for.
        noise: Lines on the console, errors of scripts and dialogues.
    """

    def __init__(self, browser: Any, **options: Any) -> None:
        self._context = browser.new_context(offline=True, **{"viewport": {"width": 1280, "height": 900}} | options)
        self._context.grant_permissions(["clipboard-read", "clipboard-write"])
        self._context.add_init_script("window.hit = 0")
        self.page = self._context.new_page()
        self.page.set_default_timeout(60_000)
        self.requests: list[str] = []
        self.noise: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.noise.append(message.text))
        self.page.on("pageerror", lambda error: self.noise.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.noise.append(dialog.message), dialog.dismiss()))

    def open(self, path: Path, fragment: str = "") -> Any:
        self.page.goto(path.as_uri() + fragment)
        return self.page

    def shown(self, part: str = "#samples") -> list[str]:
        """The summaries of the entries that can be seen."""
        return [
            " ".join(each.text_content().split())
            for each in self.page.locator(f"{part} .item > summary").all()
            if each.is_visible()
        ]

    def close(self) -> None:
        self._context.close()
