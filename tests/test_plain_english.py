"""README, docs, command line help, messages and report use the glossary's terms, not the words that they replaced."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from smaug_eval.cli import app
from tests.blocks import ROOT, pages

GLOSSARY = ROOT / "docs/reference/glossary.md"
SOURCES = ("smaug_eval", "trainers", "reports")
INVENTED = {"smaug_eval/demo"}
"""Folders whose texts are stories of the demo's world, not messages."""
NOT_OURS = ("docs/reference/glossary.md", "CHANGELOG.md")
"""The list itself, and what earlier versions were said to do."""


def rows() -> list[tuple[str, str]]:
    """Return the glossary's terms with what each replaced, as written there."""
    table = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]*)\|$", GLOSSARY.read_text(encoding="utf-8"), re.MULTILINE)
    return [(term.strip(), replaced) for term, replaced in table if term not in ("term", "word")]


REPLACED = {phrase: term for term, replaced in rows() for phrase in re.findall(r'"([^"]+)"', replaced)}
PATTERN = re.compile(r"\b(" + "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in REPLACED) + r")\b", re.I)


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module that a user may read, with their lines: every constant that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def texts() -> Iterator[tuple[str, str]]:
    """Yield every text for users, with where it is."""
    for page in pages():
        if page not in NOT_OURS:
            yield page, (ROOT / page).read_text(encoding="utf-8")
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if path.resolve() == path and not name.startswith(tuple(INVENTED)):
                yield from ((f"{name}:{line}", text) for line, text in messages(path))
    for path in sorted((ROOT / "reports/templates").glob("*.j2")):
        yield path.name, path.read_text(encoding="utf-8")
    yield from helps(get_command(app), "smaug-eval")


def helps(command: object, name: str) -> Iterator[tuple[str, str]]:
    """Yield the help of a command and of those below it."""
    yield f"{name} --help", str(getattr(command, "help", ""))
    for verb, inner in getattr(command, "commands", {}).items():
        yield from helps(inner, f"{name} {verb}")


def found(text: str) -> list[str]:
    """Return the replaced words of a text, with what to write."""
    return [f"{match[0]!r}: write {REPLACED[' '.join(match[0].lower().split())]!r}" for match in PATTERN.finditer(text)]


def test_replaced_words_are_gone() -> None:
    assert [f"{where}: {word}" for where, text in texts() for word in found(text)] == []


def test_every_term_stands_in_the_glossary_once() -> None:
    terms = [term for term, _ in rows()]
    assert len(terms) > 40
    assert sorted(set(terms)) == sorted(terms)
    assert len(REPLACED) > 25


def test_terms_of_readme_are_in_the_glossary() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    concepts = text.partition("## Concepts")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| (\w+) \|", concepts, re.MULTILINE)) - {"word"}
    assert len(named) == 8
    assert named <= {term for term, _ in rows()}


@pytest.mark.parametrize(
    "text",
    ["the same command goes on", "It is written anew.", "an answer in  words", "Most\nrequests under way.", "MEND IT"],
)
def test_a_replaced_word_is_found(text: str) -> None:
    assert found(text)


@pytest.mark.parametrize(
    "text", ["the same command resumes", "renewed", "recommend it", "in swords", "almost requests"]
)
def test_other_words_are_not(text: str) -> None:
    assert not found(text)
