"""Every request of a suite as a file: what a model is asked, document by document, in protocol order.

One JSON object a line: ``{"task": ..., "doc": <row index>, "requests": [[context, continuation], ...]}``; a task whose
answer is generated has ``[context, {"until": [...]}]`` instead. The same data give the same bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from smaug_eval.errors import SmaugError
from smaug_eval.files import open_atomically
from smaug_eval.leaderboard import protocol, v1
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.suite import Suite, nearest_or_fail

# The old harness's name of a task where it is not ours without the suite's prefix.
_HARNESS_NAMES: Mapping[str, str] = {v1.TRUTHFULQA.name: "truthfulqa_mc"}
_ENCODER = json.JSONEncoder(ensure_ascii=False)
_COMPRESSION = 1  # contexts repeat from line to line: level 9 takes many times as long for little


@dataclass(frozen=True)
class DumpedTask:
    """One task's part of a dump.

    Attributes:
        task: Its name in the file.
        documents: Lines written.
        requests: Requests in them.
        sha256: Over the JSON of every request in order, as :func:`smaug_eval.leaderboard.protocol.requests_sha256`.
        notes: Where the data of its column are not the official ones.
    """

    task: str
    documents: int
    requests: int
    sha256: str
    notes: tuple[str, ...]


def dump_requests(
    suite: Suite,
    names: Iterable[str] | None,
    *,
    limit: int | None = None,
    data_root: Path | None = None,
    out: Path | IO[bytes] | None = None,
) -> list[DumpedTask]:
    """Write a suite's requests.

    Args:
        suite: The suite.
        names: Columns or single tasks (see :func:`select_tasks`); all where None.
        limit: First documents of each task in protocol order; all where None.
        data_root: Offline mirror; None for the Hub.
        out: File to write, compressed where it ends in ``.gz``, which appears when it is complete; or an open stream;
            None: the requests are only counted and hashed.

    Returns:
        What was written, one entry per task in the order of the file.

    Raises:
        SmaugError: a name is unknown, data are missing or do not fit, or the file cannot be written.
    """
    if limit is not None and limit < 1:
        raise SmaugError(f"limit is {limit}", fix="give the number of documents of each task, 1 or more")
    specs = select_tasks(suite, names)
    with _opened(out) as write:
        return [_dump_task(suite, spec, limit, data_root, write) for spec in specs]


def select_tasks(suite: Suite, names: Iterable[str] | None = None) -> list[TaskSpec]:
    """The leaf tasks that ``names`` mean, in the suite's order; all where None.

    A name is a column's (title, task, short task) or a single task's: in lm-eval (``open_llm_v1_mmlu_anatomy``),
    without the suite's prefix (``mmlu_anatomy``), or in the old harness (``truthfulqa_mc``, ``hendrycksTest-anatomy``).

    Raises:
        SmaugError: a name is none of these; the fix proposes the nearest.
    """
    leaves = [leaf for column in suite.columns for leaf in column.leaves]
    if names is None:
        return leaves
    known: dict[str, tuple[TaskSpec, ...]] = {}
    for column in suite.columns:
        for alias in (column.title, column.task, column.task.removeprefix(f"{suite.name}_")):
            known[alias.lower()] = column.leaves
    for leaf in leaves:
        known |= dict.fromkeys(_task_aliases(suite, leaf), (leaf,))
    chosen = {leaf.name for name in names for leaf in known[nearest_or_fail(name, known, f"task of {suite.name}")]}
    return [leaf for leaf in leaves if leaf.name in chosen]


def dumped_name(suite: Suite, spec: TaskSpec) -> str:
    """A task's name in the file: the old harness's, but ``mmlu_<subject>`` for ``hendrycksTest-<subject>``."""
    return _HARNESS_NAMES.get(spec.name, spec.name.removeprefix(f"{suite.name}_"))


def _task_aliases(suite: Suite, leaf: TaskSpec) -> list[str]:
    harness = [f"hendryckstest-{leaf.subject}"] if leaf in v1.MMLU else []
    return [leaf.name.lower(), leaf.name.removeprefix(f"{suite.name}_").lower(), dumped_name(suite, leaf), *harness]


def _dump_task(
    suite: Suite, spec: TaskSpec, limit: int | None, data_root: Path | None, write: Callable[[bytes], object]
) -> DumpedTask:
    name = dumped_name(suite, spec)
    digest, requests = sha256(), 0
    documents = suite.documents(spec.name, data_root)[:limit]
    for document in documents:
        # A document's requests mostly share their context, which is nearly all of their text.
        seen: dict[str, bytes] = {}
        shown = []
        for context, continuation in protocol.requests(spec, document):
            if context not in seen:
                seen[context] = _json(context)
            hashed = b"[" + seen[context] + b", " + _json(continuation) + b"]"
            digest.update(hashed)
            # What ``protocol.requests`` gives as JSON text, and the hashes take so, is an object in the file.
            shown.append(hashed if spec.generation is None else b"[%b, %b]" % (seen[context], continuation.encode()))
        head = _json({"task": name, "doc": document["doc"]})
        write(head[:-1] + b', "requests": [' + b", ".join(shown) + b"]}\n")
        requests += len(shown)
    column = next(column for column in suite.columns if spec in column.leaves)
    notes = suite.data_notes(column, data_root)
    return DumpedTask(name, len(documents), requests, digest.hexdigest(), tuple(notes))


def _json(value: Any) -> bytes:
    return _ENCODER.encode(value).encode()


@contextmanager
def _opened(out: Path | IO[bytes] | None) -> Iterator[Callable[[bytes], object]]:
    if out is None:
        yield len  # takes the line and keeps nothing
    elif not isinstance(out, Path):
        yield out.write
    elif out.suffix != ".gz":
        with open_atomically(out) as file:
            yield file.write
    else:
        with (
            open_atomically(out) as file,
            gzip.GzipFile(filename="", mode="wb", compresslevel=_COMPRESSION, fileobj=file, mtime=0) as lines,
        ):
            yield lines.write
