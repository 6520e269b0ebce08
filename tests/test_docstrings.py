"""Docstrings begin with a sentence whose verb a user would search for, in plain technical English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("smaug_eval", "trainers", "reports", "tasks", "benchmarks")
VERBS = """
Accept Add Adjust Align Answer Append Apply Ask Assemble Assign Attach Average Bind Bootstrap Bring Build Cache Call
Change Check Choose Classify Clear Clip Close Collect Combine Compare Complete Compute Configure Continue Convert
Coordinate Copy Count Create Cut Decide Decode Define Delete Describe Detect Diagnose Digest Divide Do Download Draw
Drop Dump Encode End Ensure Escape Estimate Evaluate Execute Export Extract Feed Fetch Fill Filter Find Fit Flag
Forget Format Free Fuzz Generate Get Give Group Handle Hash Hold Identify Import Insert Install Join Judge Keep Kill
Launch Lay Leave Let Limit Link List Load Locate Lock Log Look Make Manage Map Mark Mask Match Measure Merge Model
Move Name Normalise Note Number Open Order Overwrite Pack Pad Pair Parse Pass Pick Place Plan Predict Prepare Print
Probe Provide Put Queue Quote Raise Rank Read Receive Recognise Record Refuse Register Release Remove Rename Render
Replace Report Request Resample Rescore Resolve Restore Resume Retry Return Round Run Sample Save Say Score Seal
Search Select Send Separate Serve Set Share Shorten Show Skip Sort Split Start State Step Stop Store Submit Suggest
Sum Summarise Support Switch Sync Take Tell Test Time Tokenise Train Treat Truncate Try Turn Untie Update Use Validate
Verify Wait Watch Word Wrap Write Yield
"""
"""The imperatives that a first line may begin with."""
HOUSE_WORDS = re.compile(
    r"\bcourse of (a|the|some) (run|work)|\bgo(es)? on with\b|\banew\b(?!`)|, in (plain )?words\b|"
    r"\bmodel (is|was) asked\b"
)


def fault(docstring: str | None) -> str | None:
    """Return what is wrong with a docstring's first line; None where nothing is."""
    if not docstring:
        return "no docstring"
    line = docstring.splitlines()[0]
    first = line.split()[0].rstrip(",:;.")
    if first not in VERBS.split():
        return f"the first line does not begin with a verb of VERBS: {line}"
    return None if line.endswith(".") else f"the first line does not end with a full stop: {line}"


def modules() -> Iterator[Path]:
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            # The links smaug_eval/trainers, /reports and /tasks lead to folders that come by their own names.
            if path.resolve() == path:
                yield path


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield the public classes, functions and methods of a module or class, with their names."""
    for node in body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")
        elif isinstance(node, ast.If):
            yield from public(node.body, prefix)


def is_setter(node: ast.AST) -> bool:
    decorators = getattr(node, "decorator_list", [])
    return any(isinstance(each, ast.Attribute) and each.attr in ("setter", "deleter") for each in decorators)


def documented(path: Path) -> Iterator[tuple[str, str | None]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    name = path.relative_to(ROOT).as_posix()
    yield name, ast.get_docstring(tree)
    for inner, node in public(tree.body):
        assert isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if not is_setter(node):
            yield f"{name}: {inner}", ast.get_docstring(node)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield every docstring of a module, private ones and those of attributes included, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def test_docstrings_begin_with_a_verb_and_end_their_first_line() -> None:
    found = [f"{name}: {wrong}" for path in modules() for name, text in documented(path) if (wrong := fault(text))]
    assert found == []


def test_docstrings_use_terms_of_the_field() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {match.group()}"
        for path in modules()
        for line, text in texts(path)
        if (match := HOUSE_WORDS.search(text))
    ]
    assert found == []


def test_every_folder_is_looked_at() -> None:
    seen = [path.relative_to(ROOT).as_posix() for path in modules()]
    assert len(seen) == len(set(seen)) >= 200
    assert {name.split("/")[0] for name in seen} == set(FOLDERS)


@pytest.mark.parametrize(
    ("docstring", "wrong"),
    [
        ("As there.", "verb"),
        ("A question to score.", "verb"),
        ("The same with weights.", "verb"),
        ("return the mean.", "verb"),
        ("Whether it is there.", "verb"),
        ("Return the mean", "full stop"),
        ("Return the mean of several values,\nand their number.", "full stop"),
        ("", "no docstring"),
        (None, "no docstring"),
    ],
)
def test_a_fragment_is_found(docstring: str | None, wrong: str) -> None:
    assert wrong in (fault(docstring) or "")


def test_a_sentence_is_accepted() -> None:
    assert fault("Return the mean of some values.\n\nRaises:\n    ValueError: there are none.") is None
