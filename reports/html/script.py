"""Provide the page's one script, and the policy that lets a browser run it and no other."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple

from markupsafe import Markup


class Script(NamedTuple):
    """Hold a script as it stands between its tags.

    Attributes:
        text: The whole of it.
        policy: Its hash as Content-Security-Policy level 2 writes it; any other script is refused.
    """

    text: Markup
    policy: str


_PARTS = ("copying", "sorting", "lists", "baseline", "start")
_FRAME = """"use strict";
// Adds to a page that is complete without it: lists that filter, tables that sort, filter and can be copied, and a
// choice of the baseline. Everything from the data is read and written as text; nothing is ever parsed as markup.
(() => {
%s})();
"""


@cache
def page_script(name: str | None = None) -> Script:
    """Return a page's script, our own files with nothing filled in.

    Args:
        name: A file of the templates; None for the report's parts.
    """
    folder = resources.files("smaug_eval.reports") / "templates"
    if name is not None:
        text = (folder / name).read_text(encoding="utf-8")
    else:
        text = _FRAME % "\n".join((folder / "script" / f"{part}.js").read_text(encoding="utf-8") for part in _PARTS)
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return Script(Markup(text), f"sha256-{digest}")  # noqa: S704 - our own file
