"""Write every request of a suite to a file: the prompts of each document, in protocol order.

One JSON object a line: ``{"task": ..., "doc": <row index>, "requests": [[context, continuation], ...]}``; a task whose
answer is generated has ``[context, {"until": [...]}]`` instead. The same data give the same bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import open_atomically
from smaug_eval.leaderboard import protocol
from smaug_eval.leaderboard.benchmarks import benchmark_of
from smaug_eval.leaderboard.chats import Chat
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.suite import Suite, nearest_or_fail

_ENCODER = json.JSONEncoder(ensure_ascii=False)
_COMPRESSION = 1  # contexts repeat from line to line: level 9 takes many times as long for little


@dataclass(frozen=True)
class DumpedTask:
    """Describe one task's part of a dump.

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
    chat: Chat | None = None,
) -> list[DumpedTask]:
    """Write a suite's requests.

    Args:
        suite: The suite.
        names: Columns or single tasks (see :func:`select_tasks`); all where None.
        limit: First documents of each task in protocol order; all where None.
        data_root: Offline mirror; None for the Hub.
        out: File to write, compressed where it ends in ``.gz``, which appears when it is complete; or an open stream;
            None: the requests are only counted and hashed.
        chat: The chat template that prompts are put into; None for none.

    Returns:
        What was written, one entry per task in the order of the file.

    Raises:
        SmaugError: a name is unknown, data are missing or do not fit, the file cannot be written, or the suite takes no
            chat template.
    """
    if chat is not None and not suite.takes_chat:
        raise SmaugError(f"{suite.name} was run without chat templates", fix="leave the template out")
    if limit is not None and limit < 1:
        raise SmaugError(f"limit is {limit}", fix="give the number of documents of each task, 1 or more")
    specs = select_tasks(suite, names)
    with _opened(out) as write:
        return [_dump_task(suite, spec, limit, data_root, write, chat) for spec in specs]


def select_tasks(suite: Suite, names: Iterable[str] | None = None) -> list[TaskSpec]:
    """Return the leaf tasks that ``names`` mean, in the suite's order; all where None.

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
    offered = [column.task.removeprefix(f"{suite.name}_") for column in suite.columns]
    chosen = {
        leaf.name for name in names for leaf in known[nearest_or_fail(name, known, f"task of {suite.name}", offered)]
    }
    return [leaf for leaf in leaves if leaf.name in chosen]


def dumped_name(suite: Suite, spec: TaskSpec) -> str:
    """Return a task's name in the file: the old harness's, but ``mmlu_<subject>`` for ``hendrycksTest-<subject>``."""
    own = spec.name.removeprefix(f"{suite.name}_")
    return own if spec.subject else _old_name(spec) or own


def _old_name(spec: TaskSpec) -> str | None:
    return benchmark_of(spec.form).old_names.get(spec.name)


def _task_aliases(suite: Suite, leaf: TaskSpec) -> list[str]:
    own = leaf.name.removeprefix(f"{suite.name}_")
    return [leaf.name.lower(), own.lower(), (_old_name(leaf) or own).lower()]


def _dump_task(
    suite: Suite,
    spec: TaskSpec,
    limit: int | None,
    data_root: Path | None,
    write: Callable[[bytes], object],
    chat: Chat | None,
) -> DumpedTask:
    name = dumped_name(suite, spec)
    digest, requests = sha256(), 0
    documents = suite.documents(spec.name, data_root)[:limit]
    shots = suite.rows(spec, data_root)[0] if chat is not None else ()
    delimiter = " " if chat is None else ""
    for plain in documents:
        document = plain if chat is None else chat.document(spec, shots, plain)
        # A document's requests mostly share their context, which is nearly all of their text.
        seen: dict[str, bytes] = {}
        shown = []
        for context, continuation in protocol.requests(spec, document, delimiter):
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
