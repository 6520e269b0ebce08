"""Find the code blocks of README and docs, and what their marks say of running them.

A comment before a block says what a test does with it beside checking it: ``<!-- run -->`` runs it, and
``<!-- not run: WHY -->`` tells why it is not.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
_FENCE = re.compile(
    r"(?:^<!-- (?P<mark>run|not run: (?P<why>[^\n]+?)) -->\n)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
_BETWEEN = re.compile(r"[;|&]+")
SHELL = ("bash", "sh", "shell", "console")


@dataclass(frozen=True)
class Block:
    """Hold a code block: where it is, its language and text, and its mark (``run``, ``not run`` or nothing)."""

    page: str
    line: int
    language: str
    text: str
    mark: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages() -> list[str]:
    """Return README, docs and the other texts at the top of the repository, relative to it."""
    docs = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return [*AT_THE_TOP, *docs]


def blocks(page: str) -> list[Block]:
    """Return the code blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        mark = (match["mark"] or "").partition(":")[0]
        found.append(Block(page, line, match["language"], match["text"], mark))
    return found


def all_blocks(*languages: str) -> list[Block]:
    """Return the blocks of all pages in some languages."""
    return [block for page in pages() for block in blocks(page) if block.language in languages]


def shell_commands(text: str) -> Iterator[list[str]]:
    """Yield the commands of a shell block, each as its words; comments and redirections are left out."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line.strip().removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        words = iter(lexer)
        for word in words:
            if _BETWEEN.fullmatch(word):
                yield from [command] * bool(command)
                command = []
            elif word in (">", ">>", "<"):
                next(words)
            else:
                command.append(word)
        yield from [command] * bool(command)


def workflow_commands(workflow: dict[str, Any]) -> str:
    """Return what the steps of a GitHub workflow run, as a shell block."""
    jobs = workflow["jobs"].values()
    return "\n".join(step["run"] for job in jobs for step in job["steps"] if "run" in step)


def navigation() -> list[str]:
    """Return the pages that the site's navigation names, relative to ``docs``."""
    tree = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def leaves(part: Any) -> Iterator[str]:
        if isinstance(part, str):
            yield part
        for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            yield from leaves(inner)

    return list(leaves(tree))
