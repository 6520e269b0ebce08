"""Define one part of the page: what it shows, and the template that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.results.comparison import Comparison

TEMPLATES = Path(__file__).parents[1] / "templates"
"""The folder of our own templates."""


@dataclass(frozen=True)
class Panel:
    """Describe one part of the page.

    Attributes:
        key: Its anchor on the page, of which there is one.
        title: Its heading, and its entry in the contents.
        build: Makes what its template shows; None where a comparison has nothing for it, and the panel is left out.
        template: Its template's name without ``.html.j2``; the key if empty.
        folder: Where that template is; it may import our own macros (``macros.html.j2``) from anywhere.
        after: Key of the panel behind which it stands; where empty, or where there is none, its place is that in the
            table of panels.
        same_for_all: Whether it shows the same whatever the baseline is. Any other panel is built for each model that
            the reader of the page can choose as the baseline.
        list_template: Name of a second template, as ``template``, for what is large and stands below the first once,
            whatever the baseline is; it gets what was built with the baseline that was given.
        begin: Starts what takes long, so that it is done while other panels are built; None where nothing does.
    """

    key: str
    title: str
    build: Callable[[Comparison], Mapping[str, Any] | None]
    template: str = ""
    folder: Path = TEMPLATES
    after: str = ""
    same_for_all: bool = False
    list_template: str = ""
    begin: Callable[[Comparison], None] | None = None

    @property
    def file(self) -> Path:
        """Return the path of the template."""
        return self.folder / f"{self.template or self.key}.html.j2"

    @property
    def list_file(self) -> Path | None:
        """Return the path of the second template; None where there is none."""
        return self.folder / f"{self.list_template}.html.j2" if self.list_template else None
