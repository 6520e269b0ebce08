"""The page's one script, and the policy that lets a browser run it and no other."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple

from markupsafe import Markup


class Script(NamedTuple):
    """A script as it stands between its tags.

    Attributes:
        text: The whole of it.
        policy: Its hash as Content-Security-Policy level 2 writes it; any other script is refused.
    """

    text: Markup
    policy: str


@cache
def page_script() -> Script:
    """The script that filters samples and copies tables: our own file, with nothing filled in."""
    text = (resources.files("reports") / "templates" / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return Script(Markup(text), f"sha256-{digest}")  # noqa: S704 - our own file
