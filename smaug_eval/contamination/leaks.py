"""Find benchmark documents in training pairs: a model trained on the questions it is scored on proves nothing.

What is compared: words. Text is normalised (NFKC, case folded; every run of punctuation, white space and underscores
separates words), so that layout, markup and typographic quotes make no difference. A document is found where all words
of its identifying text (the question; HellaSwag's context; Winogrande's sentence, with the blank open or filled with
either option) stand in a row in a pair: within the prompt, its few-shot examples included, within a completion, or
across the two; in rows of messages, across messages too.

A text of fewer than 8 words, and one that documents with different answers share, may be a stock phrase ("Which of the
following is true?"). It counts only where the document's gold answer begins within the next 8 words after it, and
never if fewer than 3 of its words have a letter: "4 + 3 =" with 7 after it stands in many a calculation.

What is not found: paraphrases, translations, documents with a word left out, altered or spelt otherwise, parts of a
question, and answers alone. The other way round, a question that another benchmark or the training split words alike
is found even where its choices differ.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_json
from smaug_eval.leaderboard.columns import Column
from smaug_eval.leaderboard.forms import Row
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.leaderboard.suite import Suite, nearest_or_fail
from smaug_eval.leaderboard.suite_data import short_name
from smaug_eval.trainers.pairs.pair import message_text

HEAD = 8
"""Words that a search starts from; a shorter text counts only together with its answer."""

LETTERED = 3
"""Words with a letter that a stock phrase needs, to be looked for at all."""

REACH = 8
"""Words after a stock phrase among which the gold answer must begin."""

EXAMPLES = 5
LEAKS_FILE = "leaks.json"

_UNKNOWN, _BORDER = 0, 1
_BATCH = 128
_TABLE_BITS = 21
_SHIFT = np.uint64(64 - _TABLE_BITS)
_LINES_KEPT = 1 << 16
_WORD = re.compile(r"[^\W_]+")

WordIds = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class BenchmarkDocument:
    """Identify one evaluated document.

    Attributes:
        task: Its column's short name, such as ``gsm8k``.
        name: Which document of the column: its row in the evaluated split, with the subject where there are subjects.
        texts: Its identifying text, in every wording that counts.
        answer: The gold answer.
    """

    task: str
    name: str
    texts: tuple[str, ...]
    answer: str


@dataclass
class TaskLeaks:
    """Hold the documents of one task that stand in a pair file.

    Attributes:
        pairs: Line number of each pair that holds one, from 1, with the name of the first document in it.
        documents: Names of the documents found.
    """

    pairs: dict[int, str] = field(default_factory=dict)
    documents: set[str] = field(default_factory=set)

    def summary(self) -> dict[str, Any]:
        """Return the counts and the first examples, as plain data."""
        examples = [{"line": line, "document": name} for line, name in islice(self.pairs.items(), EXAMPLES)]
        return {"pairs": len(self.pairs), "documents": len(self.documents), "first": examples}


def check_pairs(
    pair_set: str,
    columns: Sequence[tuple[Suite, Column]],
    *,
    train_file: Path,
    eval_file: Path,
    allowed: Collection[str],
    data_root: Path | None,
    out_dir: Path,
) -> dict[str, Any]:
    """Search a built pair set for the documents of some columns.

    Args:
        pair_set: Its name in the recipe.
        columns: What models trained on it are scored on.
        train_file: Its training pairs.
        eval_file: Its held-out pairs; what is found there is only warned of.
        allowed: Short names of the tasks whose documents may be trained on, with a warning.
        data_root: Offline mirror of the benchmarks; None for the Hub.
        out_dir: Receives ``leaks.json``: for ``train`` and ``eval``, by task, the line of every pair that holds a
            document, with the first document in it.

    Returns:
        Documents looked for, those too short for it, what was found, and warnings.

    Raises:
        SmaugError: training pairs hold documents of a task that is not allowed; or the data are missing.
    """
    documents = [document for suite, column in columns for document in column_documents(suite, column, data_root)]
    finder = LeakFinder(documents)
    trained, held_out = (finder.find(read_rows(file)) for file in (train_file, eval_file))
    write_json(out_dir / LEAKS_FILE, {"train": _lines(trained), "eval": _lines(held_out)})
    refused = {task: leak for task, leak in trained.items() if task not in allowed}
    if refused:
        raise SmaugError(
            "\n".join(_refusal(pair_set, task, leak, train_file) for task, leak in refused.items()),
            fix=f"remove these pairs (all are listed in {out_dir / LEAKS_FILE}), "
            f"or allow them by name: pairs.{pair_set}.allow_leaks: [{', '.join(refused)}]",
        )
    return {
        "documents": len(documents),
        "not_searched": finder.not_searched,
        "train": {task: leak.summary() for task, leak in trained.items()},
        "eval": {task: leak.summary() for task, leak in held_out.items()},
        "warnings": [
            *(
                f"trained on {len(leak.pairs):,} pairs of {pair_set} that contain test documents of {task} "
                "(allowed by allow_leaks)"
                for task, leak in trained.items()
            ),
            *(
                f"{len(leak.pairs):,} held-out pairs of {pair_set} contain test documents of {task}"
                for task, leak in held_out.items()
            ),
        ],
    }


def known_tasks(names: Collection[str], key: str, scored: Sequence[tuple[Suite, Column]] = ()) -> set[str]:
    """Return the short names of the tasks called ``names``, of any suite.

    Args:
        names: Titles, lm-eval tasks, or short names, as an evaluation's ``tasks`` takes them.
        key: The recipe key they stand under, for messages.
        scored: Columns beside those of the suites, such as lm-eval's tasks that a recipe evaluates.

    Raises:
        SmaugError: no suite has a task of that name; the fix proposes the nearest.
    """
    if not names:
        return set()
    columns = [(suite, column) for make in SUITES.values() for suite in [make()] for column in suite.columns]
    columns += scored
    aliases = {
        alias.lower(): short_name(suite, column)
        for suite, column in columns
        for alias in (column.title, column.task, short_name(suite, column))
    }
    offered = list(dict.fromkeys(aliases.values()))
    return {aliases[nearest_or_fail(name, aliases, f"task for {key}", offered)] for name in names}


def words(text: str) -> list[str]:
    """Return the normalised words of a text."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def column_documents(suite: Suite, column: Column, data_root: Path | None) -> list[BenchmarkDocument]:
    """Return the documents of a column: every row of the evaluated split, whatever limit an evaluation sets.

    Raises:
        SmaugError: the data are missing, or a row does not fit its form.
    """
    task = short_name(suite, column)
    found = []
    for leaf in column.leaves:
        part = leaf.subject or (leaf.name.removeprefix(f"{suite.name}_") if len(column.leaves) > 1 else "")
        prefix = f"{part} " if part else ""
        _, rows = suite.rows(leaf, data_root)
        for index, row in enumerate(rows):
            texts, answer = _identified(leaf, index, row)
            found.append(BenchmarkDocument(task, f"{prefix}{index}", tuple(dict.fromkeys(texts)), answer))
    return found


def pair_texts(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return prompt, chosen and rejected of a row as text; messages follow each other on lines of their own.

    An unpaired row gives its prompt and its completion. Of a message, its reasoning and the texts of its calls and
    their results count as well.
    """
    sides = ("prompt", "completion") if "completion" in row else ("prompt", "chosen", "rejected")
    if isinstance(row["prompt"], str):
        return tuple(row[side] for side in sides)
    return tuple("".join(f"{message_text(message)}\n" for message in row[side]) for side in sides)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a pair file that this program built, one at a time."""
    with path.open(encoding="utf-8") as lines:
        yield from map(json.loads, lines)


class LeakFinder:
    """Find documents in pairs; made once, used on any number of pair files.

    Documents are indexed by a hash of their first ``HEAD`` words. All windows of as many words in a batch of pairs are
    hashed together; where a hash is known, the whole document is compared word by word.

    Args:
        documents: What to look for.

    Attributes:
        not_searched: Documents with too few words to distinguish them from chance.
    """

    def __init__(self, documents: Sequence[BenchmarkDocument]) -> None:
        self._documents = documents
        self._vocabulary: dict[str, int] = {}
        self._lines: dict[str, WordIds] = {}
        self._answers = [self._learn(words(document.answer)) for document in documents]
        self._by_text: dict[bytes, list[int]] = defaultdict(list)
        lengths: dict[int, dict[int, set[int]]] = defaultdict(lambda: defaultdict(set))
        multipliers = np.random.default_rng(HEAD).integers(1 << 63, size=HEAD, dtype=np.uint64)
        self._multipliers: WordIds = 2 * multipliers + 1
        for index, document in enumerate(documents):
            for text in map(words, document.texts):
                ids = self._learn(text)
                if len(ids) >= HEAD or sum(map(_has_letter, text)) >= LETTERED:
                    self._by_text[ids.tobytes()].append(index)
                    head = min(len(ids), HEAD)
                    lengths[head][int(self._hashes(ids, head)[0])].add(len(ids))
        searched = {index for found in self._by_text.values() for index in found}
        self.not_searched = len(documents) - len(searched)
        self._lengths = {head: dict(found) for head, found in lengths.items()}
        self._tables = {head: _table(found) for head, found in lengths.items()}
        self._stock = {text for text, found in self._by_text.items() if self._is_stock(text, found)}

    def find(self, rows: Iterable[Mapping[str, Any]]) -> dict[str, TaskLeaks]:
        """Find the documents in each row, by task; tasks and line numbers in order, tasks without a leak left out.

        Args:
            rows: ``prompt``, ``chosen``, ``rejected`` as text or as lists of messages.
        """
        leaks: dict[str, TaskLeaks] = {}
        numbered = enumerate(rows, 1)
        while batch := list(islice(numbered, _BATCH)):
            for line, index in sorted(self._in_batch(batch)):
                document = self._documents[index]
                task = leaks.setdefault(document.task, TaskLeaks())
                task.pairs.setdefault(line, document.name)
                task.documents.add(document.name)
        return dict(sorted(leaks.items()))

    def _in_batch(self, batch: Sequence[tuple[int, Mapping[str, Any]]]) -> set[tuple[int, int]]:
        """Line number and document index of everything found in some rows."""
        border = np.full(1, _BORDER, np.uint64)
        parts: list[WordIds] = []
        starts, lines, position = [], [], 0
        for line, row in batch:
            for ids in self._streams(*pair_texts(row)):
                starts.append(position)
                lines.append(line)
                parts += [*ids, border]
                position += sum(map(len, ids)) + 1
        stream = np.concatenate(parts)
        return {
            (lines[int(np.searchsorted(starts, where, side="right")) - 1], index)
            for where, index in self._in_stream(stream)
        }

    def _streams(self, prompt: str, *completions: str) -> Iterator[list[WordIds]]:
        """The words before and in each completion, in pieces; the prompt's last line may continue in the completion."""
        head, newline, tail = prompt.rpartition("\n")
        before = self._ids(head + newline)
        for completion in completions:
            yield before + self._ids(tail + completion)

    def _ids(self, text: str) -> list[WordIds]:
        """Ids of the words of a text, line by line: few-shot examples repeat, so their lines are remembered."""
        if len(self._lines) > _LINES_KEPT:
            self._lines.clear()
        known = self._vocabulary.get
        pieces = []
        for line in text.split("\n"):
            ids = self._lines.get(line)
            if ids is None:
                ids = np.array([known(word, _UNKNOWN) for word in words(line)], np.uint64)
                self._lines[line] = ids
            if len(ids):
                pieces.append(ids)
        return pieces

    def _learn(self, text: Iterable[str]) -> WordIds:
        ids = [self._vocabulary.setdefault(word, len(self._vocabulary) + _BORDER + 1) for word in text]
        return np.array(ids, np.uint64)

    def _hashes(self, ids: WordIds, length: int) -> WordIds:
        """A hash of every window of ``length`` words; shape ``(len(ids) - length + 1,)``."""
        windows = np.lib.stride_tricks.sliding_window_view(ids, length)
        return windows @ self._multipliers[:length]

    def _is_stock(self, text: bytes, found: Sequence[int]) -> bool:
        answers = {self._answers[index].tobytes() for index in found}
        return len(text) < HEAD * np.dtype(np.uint64).itemsize or len(answers) > 1

    def _in_stream(self, stream: WordIds) -> Iterator[tuple[int, int]]:
        """Where documents begin in a stream of words, with their indices."""
        for head, table in self._tables.items():
            if len(stream) < head:
                continue
            hashes = self._hashes(stream, head)
            for where in np.flatnonzero(table[hashes >> _SHIFT]).tolist():
                for length in self._lengths[head].get(int(hashes[where]), ()):
                    for index in self._at(stream, where, length):
                        yield where, index

    def _at(self, stream: WordIds, where: int, length: int) -> Iterator[int]:
        text = stream[where : where + length].tobytes()
        following = stream[where + length :]
        for index in self._by_text.get(text, ()):
            if text not in self._stock or _begins_within(following, self._answers[index]):
                yield index


def _identified(leaf: TaskSpec, index: int, row: Row) -> tuple[list[str], str]:
    try:
        return leaf.form.identity(row)
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise SmaugError(
            f"{leaf.name}: row {index} of {leaf.evaluated} does not fit the form {leaf.form.name}: {error!r}",
            fix="use rows as the Hub has them",
        ) from error


def _table(hashes: Iterable[int]) -> npt.NDArray[np.bool_]:
    """Which beginnings of a hash are among ``hashes``: one look instead of a search, for the many that are not."""
    table = np.zeros(1 << _TABLE_BITS, np.bool_)
    table[np.fromiter(hashes, np.uint64) >> _SHIFT] = True
    return table


def _lines(leaks: Mapping[str, TaskLeaks]) -> dict[str, dict[int, str]]:
    return {task: leak.pairs for task, leak in leaks.items()}


def _refusal(pair_set: str, task: str, leak: TaskLeaks, train_file: Path) -> str:
    line, document = next(iter(leak.pairs.items()))
    return (
        f"pairs.{pair_set}: {len(leak.pairs):,} training pairs contain test documents of {task}, which this recipe "
        f"evaluates; the first is line {line} of {train_file}, with document {document}"
    )


def _has_letter(word: str) -> bool:
    return any(map(str.isalpha, word))


def _begins_within(following: WordIds, answer: WordIds) -> bool:
    """Whether ``answer`` begins among the next ``REACH`` words, before the text ends."""
    near = following[: REACH + len(answer)]
    ends = np.flatnonzero(near == _BORDER)
    near = near[: ends[0]] if len(ends) else near
    starts = range(min(REACH, len(near) - len(answer) + 1))
    return bool(len(answer)) and any(np.array_equal(near[start : start + len(answer)], answer) for start in starts)
