"""Names of classes: one thing, one name, in all of the package."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import smaug_eval

PACKAGE = Path(smaug_eval.__file__).parent


def test_no_two_modules_give_their_classes_one_name() -> None:
    """``Outcome`` or ``Place`` in two rooms are two things to a reader, with a leading underscore or without."""
    places: dict[str, list[str]] = defaultdict(list)
    for room in sorted(PACKAGE.iterdir()):
        files = sorted(room.rglob("*.py")) if room.is_dir() else [room] if room.suffix == ".py" else []
        for file in files:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef):
                    places[node.name.lstrip("_")].append(f"{file.relative_to(PACKAGE)}:{node.lineno}")
    assert len(places) > 200
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
