"""Remove folders of this machine from texts that leave it: what a path ends with says enough."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.embedded import TASKS_FOLDER
from smaug_eval.common.redaction import without_keys
from smaug_eval.common.text import texts_in
from smaug_eval.results.layout import MANIFEST
from smaug_eval.results.sources import Source

_PATH = re.compile(r"(?<![\w.:/<~-])/(?:[\w.@+~%-]+/)+[\w.@+~%-]+")
_PACKAGE = Path(__file__).resolve().parents[1]


class Places:
    """Find and replace the folders and files of this machine that a run's texts may name.

    Args:
        folders: Folders themselves.
        texts: Plain data in which every absolute path is one of this machine: manifests, settings.
    """

    def __init__(self, folders: Iterable[Path], texts: Iterable[Any] = ()) -> None:
        found = {str(spelled) for folder in folders for spelled in (folder.absolute(), folder.resolve())}
        found |= {match for value in texts for text in texts_in(value) for match in _PATH.findall(text)}
        self._known = sorted((each for each in found if each.count("/") > 1), key=len, reverse=True)
        names = "|".join(re.escape(each) for each in self._known)
        self._pattern = re.compile(rf"(?:file://)?(?:{names})(?![\w@+~%-])") if names else None

    def hide(self, text: str) -> str:
        """Return a text with the last part of each known path in its place, and without keys."""
        shown = text if self._pattern is None else self._pattern.sub(lambda found: Path(found[0]).name, text)
        return without_keys(shown)

    def hide_in(self, value: Any) -> Any:
        """Return plain data with :meth:`hide` done to every text."""
        if isinstance(value, Mapping):
            return {key: self.hide_in(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.hide_in(part) for part in value]
        return self.hide(value) if isinstance(value, str) else value

    def left_in(self, text: str) -> list[str]:
        """Return the known folders that a text names."""
        return [each for each in self._known if each in text]


def places_of(sources: Iterable[Source]) -> Places:
    """Return the places that runs name: in their manifests, and in the settings of their evaluations."""
    folders = [Path.home(), Path.cwd(), _PACKAGE, _PACKAGE.parent, TASKS_FOLDER]
    texts: list[Any] = [os.environ.get("HF_HOME", ""), os.environ.get("HF_HUB_CACHE", "")]
    for source in sources:
        root = source.folder or source.root
        folders += [] if root is None else [root, root / MANIFEST, *root.absolute().parents]
        manifest = source.manifest or {}
        texts.append(manifest)
        texts += [result.config.get("metadata") for own in source.results.values() for result in own.values()]
        for each in source.evaluations:
            texts.append({key: each.document.get(key) for key in ("config", "model_name", "model_source")})
    return Places(folders, texts)
