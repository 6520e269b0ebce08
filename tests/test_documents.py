"""Every test that docs/reliability.md names exists, where it says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reliability.md"
HOME = re.compile(r"[Tt]ests (?:are )?in `(tests/[\w/]+\.py)`")
NAMED = re.compile(r"`(tests/[\w/]+\.py)?(::)?((?:Test\w+::)?test_\w+(?:\.\.\.)?)?`")
SCRIPT = re.compile(r"`(?:python -m )?benchmarks[./](\w+)(?:\.py)?\b")


@cache
def known_tests(file: str) -> frozenset[str]:
    """Names of the tests of a file, those in classes with their class."""
    tree = ast.parse((ROOT / file).read_text())
    found = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for group in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        methods = (node.name for node in group.body if isinstance(node, ast.FunctionDef))
        found |= {name for method in methods for name in (method, f"{group.name}::{method}")}
    return frozenset(found)


def named() -> list[tuple[int, str, str]]:
    """Line, file and test of everything that the page calls a test; the test is empty where a whole file is named.

    A name by itself is of the file that its section names, else of the one that the page does; one that begins with
    ``::`` is of the file before it.
    """
    found = []
    of_page = of_section = last = ""
    for number, line in enumerate(PAGE.read_text().splitlines(), 1):
        if line.startswith("## "):
            of_section = of_page
        if match := HOME.search(line):
            of_section = match[1]
            of_page = of_page or of_section
        for file, same, test in NAMED.findall(line):
            if file or test:
                last = last if same and not file else file or of_section
                found.append((number, last, test))
    return found


@pytest.mark.parametrize(("line", "file", "test"), named())
def test_a_test_that_the_page_names_exists(line: int, file: str, test: str) -> None:
    assert (ROOT / file).is_file(), f"line {line}: there is no {file}"
    whole, dots, _ = test.partition("...")
    known = [name for name in known_tests(file) if name == whole or (dots and name.startswith(whole))]
    assert known or not test, f"line {line}: {file} has no {test}"


def test_every_programme_that_the_page_names_exists() -> None:
    assert not [name for name in SCRIPT.findall(PAGE.read_text()) if not list((ROOT / "benchmarks").glob(f"{name}*"))]


def test_everything_that_looks_like_a_test_is_one() -> None:
    quoted = [text for text in re.findall(r"`[^`\n]+`", PAGE.read_text()) if "test_" in text]
    assert len(quoted) > 100
    assert not [text for text in quoted if not NAMED.fullmatch(text)]
