"""Tokenise many texts that have long parts in common: each part is tokenised once.

Few-shot prompts are made of the same examples over and over, separated by empty lines, and the answers of a question
repeat all of it. A text is cut around empty lines and before its answer, always at a space between two letters, which
the usual tokenizers never let a token cross; what lies between two cuts is tokenised once, however often it occurs.
Whether a tokenizer is one of these is looked up in its parts, and tried on some of the texts; any other gets whole
texts.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from smaug_eval.prefix.layout import TokenIds

ENCODED_AT_ONCE = 1024
TRIED = 16  # texts that are tokenised whole as well
NEAR = 100  # characters in which a cut is looked for

_CUT = re.compile("(?<=[A-Za-z]) (?=[A-Za-z])")
_BREAK = re.compile("\n\n")
_WORD_START = "\N{LOWER ONE EIGHTH BLOCK}"

log = logging.getLogger(__name__)


class TextEncoder:
    """Tokenise texts without doing any part of the work twice.

    Args:
        tokenizer: A tokenizer of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._keeps_space = _keeps_space(tokenizer)

    def encode(self, texts: Sequence[str], *, ends: Sequence[int] = (), special: bool | None = False) -> list[TokenIds]:
        """Encode each text into the tokens that ``tokenizer(text)`` gives.

        Args:
            texts: What to tokenise.
            ends: Where the part ends that each has in common with others; all of each text if left out.
            special: ``add_special_tokens``; None for the tokenizer's own habit.
        """
        if self._keeps_space is None:
            return _whole(self._tokenizer, texts, special)
        before, after = _frame(self._tokenizer, special)
        pieces = _in_pieces(self._tokenizer, texts, self._keeps_space, ends)
        found = [np.concatenate([before, ids, after]) for ids in pieces] if len(before) + len(after) else pieces
        tried = range(0, len(texts), max(1, len(texts) // TRIED))
        expected = _whole(self._tokenizer, [texts[index] for index in tried], special)
        if all(np.array_equal(found[index], ids) for index, ids in zip(tried, expected, strict=True)):
            return found
        log.warning("%s crosses spaces between letters; tokenising whole texts", type(self._tokenizer).__name__)
        self._keeps_space = None
        return _whole(self._tokenizer, texts, special)


def tokenizer_sha256(tokenizer: Any) -> str:
    """Return one hash over how a tokenizer cuts text."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    text = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(f"{type(tokenizer).__name__}{text}".encode()).hexdigest()


def _whole(tokenizer: Any, texts: Sequence[str], special: bool | None) -> list[TokenIds]:
    options = {} if special is None else {"add_special_tokens": special}
    found: list[TokenIds] = []
    for first in range(0, len(texts), ENCODED_AT_ONCE):
        some = list(texts[first : first + ENCODED_AT_ONCE])
        rows = tokenizer(some, return_attention_mask=False, **options)["input_ids"]
        found += [np.array(ids, np.int32) for ids in rows]
    return found


def _frame(tokenizer: Any, special: bool | None) -> tuple[TokenIds, TokenIds]:
    """The special tokens before and behind every text."""
    probe = ["a"]
    framed, plain = (_whole(tokenizer, probe, habit)[0] for habit in (special, False))
    fits = (start for start in range(len(framed)) if np.array_equal(framed[start : start + len(plain)], plain))
    start = next(fits, 0)
    return framed[:start], framed[start + len(plain) :]


def _in_pieces(tokenizer: Any, texts: Sequence[str], keeps_space: bool, ends: Sequence[int] = ()) -> list[TokenIds]:
    heads: dict[str, list[str]] = {}  # all but the last piece of a text, which many texts share
    split: list[tuple[str, str]] = []
    for text, end in zip(texts, ends or map(len, texts), strict=True):
        place = _last_cut(text, end)
        head, tail = (text[:place], text[place + (not keeps_space) :]) if place else ("", text)
        if head and head not in heads:
            heads[head] = list(_pieces(head, keeps_space))
        split.append((head, tail))
    pieces = list(dict.fromkeys(itertools.chain(*heads.values(), (tail for _, tail in split))))
    ids = dict(zip(pieces, _whole(tokenizer, pieces, False), strict=True))
    head_ids = {head: np.concatenate([ids[piece] for piece in parts]) for head, parts in heads.items()}
    return [np.concatenate([head_ids[head], ids[tail]]) if head else ids[tail] for head, tail in split]


def _pieces(text: str, keeps_space: bool) -> Iterator[str]:
    """A text in pieces; the space at each cut begins the piece behind it or, where a tokenizer adds it, is left out."""
    start = 0
    for place in _cuts(text):
        yield text[start:place]
        start = place + (not keeps_space)
    yield text[start:]


def _cuts(text: str) -> Iterator[int]:
    """Around each empty line the last cut before it and the first one after it."""
    last = 0
    for empty in _BREAK.finditer(text):
        after = _CUT.search(text, empty.end())
        for place in (_last_cut(text, empty.start()), after.start() if after else 0):
            if place > last:
                last = place
                yield last


def _last_cut(text: str, end: int) -> int:
    """The last cut shortly before ``end``; 0 if there is none."""
    return max((found.start() for found in _CUT.finditer(text, max(0, end - NEAR), end)), default=0)


def _keeps_space(tokenizer: Any) -> bool | None:
    """How a tokenizer treats the space at a cut; None where tokens may cross one.

    True where words carry the space before them and are found by a regular expression, false where every text is given
    a space in front and no token has one but there.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or any(_CUT.search(str(token)) for token in tokenizer.added_tokens_decoder.values()):
        return None
    parts = json.loads(backend.to_str())
    kinds = _kinds(parts["pre_tokenizer"])
    if "ByteLevel" in kinds and _kinds(parts["normalizer"]) <= {"NFC"} and _splits_at_spaces(backend.pre_tokenizer):
        return True
    adds_space = _kinds(parts["normalizer"]) == {"Sequence", "Prepend", "Replace"} and not kinds
    crosses = any(_WORD_START in token.lstrip(_WORD_START) for token in tokenizer.get_vocab())
    return False if (adds_space or kinds == {"Metaspace"}) and not crosses else None


def _kinds(part: dict[str, Any] | None) -> set[str]:
    """The types of a tokenizer's part and of all inside it."""
    if part is None:
        return set()
    inner = part.get("pretokenizers") or part.get("normalizers") or []
    return {part["type"]}.union(*map(_kinds, inner))


def _splits_at_spaces(pre_tokenizer: Any) -> bool:
    probe = "Ab cd. Xyz it's q\n\nQuestion: a 3 b"
    starts = {start for _, (start, _) in pre_tokenizer.pre_tokenize_str(probe)}
    return all(found.start() in starts for found in _CUT.finditer(probe))
