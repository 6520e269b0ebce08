"""Generate hostile inputs: valid documents with parts replaced, removed, doubled or renamed, and broken bytes.

hypothesis draws the edits of the first input of a family and the seed of the others, which are edits of the same
examples: most of the time goes into reading rather than drawing, and what fails still shrinks.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hypothesis import strategies as st

FAMILY = 50
"""Inputs for one drawing of hypothesis's."""

Edit = tuple[str, int, Any]
ByteEdit = tuple[str, int, int, bytes]
Family = st.SearchStrategy[list[bytes]]

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**63, 10**400, 1e308, 5e-324, 0.5),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "0", "nan", "1e999", "[[5]]", "[[A]]", "\x00", "\ud800", "\u202e", "ＡＢＣ", "é" * 70),
    *("../../outside", "/etc/hostname", "..\\outside", "CON", "a" * 5000, "https://me:secret@host/v1", "<script>"),
    *([], {}, [[]], [{}], [None], {"": None}, {"a": {"b": []}}, [1, "a", None], [0.1] * 3, ["x", "y"]),
)
"""Values that programs stumble over, in the place of any part of a document."""

TOKENS = (
    *(b"", b"\n", b"\r\n", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"[" * 3000, b'{"a":' * 3000),
    *(b"9" * 5000, b"NaN", b"-Infinity", b"1e400", b'"\\ud800"', b"\\", b'"', b"}{", b",,", b"null", b"True"),
    *(b"&a [*a, *a]", b"!!python/object/apply:os.system [true]", b"<<: ", b"%YAML 9.9\n", b"---\n", b"!!binary x"),
    *(b"2001-99-99", b"!!float x", b"? [a]\n: b\n", b"\xe2\x80\xa8", b"1_0", b"0x", b"0o9", b"=", b": ", b"\t"),
)
"""Bytes to put anywhere."""

_KINDS = ("replace", "replace", "replace", "delete", "double", "rename", "wrap", "swap")
_BYTE_KINDS = ("truncate", "flip", "insert", "remove", "repeat")
_MOST_EDITS = 4
_LARGEST = 2**16

_PLACES = st.integers(0, _LARGEST)
_PLAIN = st.one_of(
    st.sampled_from(HOSTILE), st.integers(), st.floats(), st.text(max_size=8), st.lists(st.integers(), max_size=3)
)
_EDITS = st.lists(st.tuples(st.sampled_from(_KINDS), _PLACES, _PLAIN), max_size=_MOST_EDITS)
_BYTE_EDITS = st.lists(
    st.tuples(st.sampled_from(_BYTE_KINDS), _PLACES, _PLACES, st.sampled_from(TOKENS)), max_size=_MOST_EDITS
)
_SEEDS = st.integers(0, 2**32 - 1)


def json_files(examples: Sequence[Any], encode: Callable[[Any], bytes] | None = None) -> Family:
    """Draw JSON documents like ``examples`` (or what ``encode`` makes of them); some with broken bytes."""
    written = encode or as_json

    def family(example: Any, edits: Sequence[Edit], seed: int) -> list[bytes]:
        rng = random.Random(seed)
        others = (edited(rng.choice(examples), random_edits(rng)) for _ in range(FAMILY - 1))
        return [written(edited(example, edits)), *(_sometimes_broken(written(each), rng) for each in others)]

    return st.builds(family, st.sampled_from(list(examples)), _EDITS, _SEEDS)


def json_line_files(examples: Sequence[Any]) -> Family:
    """Return up to four lines like ``examples``; some with broken bytes, or without the last line feed."""

    def family(example: Any, edits: Sequence[Edit], seed: int) -> list[bytes]:
        rng = random.Random(seed)
        first = as_json(edited(example, edits)) + b"\n"
        return [first, *(_sometimes_broken(_lines(examples, rng), rng) for _ in range(FAMILY - 1))]

    return st.builds(family, st.sampled_from(list(examples)), _EDITS, _SEEDS)


def byte_files(examples: Sequence[bytes]) -> Family:
    """Return one of ``examples`` with broken bytes."""

    def family(example: bytes, edits: Sequence[ByteEdit], seed: int) -> list[bytes]:
        rng = random.Random(seed)
        others = (broken(rng.choice(examples), random_byte_edits(rng)) for _ in range(FAMILY - 1))
        return [broken(example, edits), *others]

    return st.builds(family, st.sampled_from(list(examples)), _BYTE_EDITS, _SEEDS)


def as_json(value: Any) -> bytes:
    """Return JSON as Python writes it: NaN and halves of surrogate pairs included."""
    return json.dumps(value).encode()


def random_edits(rng: random.Random) -> list[Edit]:
    """Return one to four edits of a document."""
    return [
        (rng.choice(_KINDS), rng.randrange(_LARGEST), rng.choice(HOSTILE)) for _ in range(rng.randint(1, _MOST_EDITS))
    ]


def random_byte_edits(rng: random.Random) -> list[ByteEdit]:
    """Return one to four edits of bytes."""
    return [
        (rng.choice(_BYTE_KINDS), rng.randrange(_LARGEST), rng.randrange(_LARGEST), rng.choice(TOKENS))
        for _ in range(rng.randint(1, _MOST_EDITS))
    ]


def edited(document: Any, edits: Sequence[Edit]) -> Any:
    """Return a copy of ``document`` with parts changed.

    Each edit names a kind, a place (modulo the parts) and a value.
    """
    root = [copy.deepcopy(document)]
    for kind, number, value in edits:
        places = list(_places(root))
        holder, key = places[number % len(places)]
        if kind == "delete" and holder is not root:
            del holder[key]
        elif kind == "double" and isinstance(holder, list) and holder is not root:
            holder.insert(key, copy.deepcopy(holder[key]))
        elif kind == "rename" and isinstance(holder, dict):
            holder[str(value)[:200]] = holder.pop(key)
        elif kind == "wrap":
            holder[key] = [holder[key]] if number % 2 else {"a": holder[key]}
        elif kind == "swap":
            other, there = places[(number // 7) % len(places)]
            holder[key] = copy.deepcopy(other[there])
        else:
            holder[key] = copy.deepcopy(value)
    return root[0]


def broken(data: bytes, edits: Sequence[ByteEdit]) -> bytes:
    """Return ``data`` with bytes cut off, flipped, put in, taken out or repeated; places are modulo its length."""
    for kind, first, second, token in edits:
        at = first % (len(data) + 1)
        until = at + second % 64
        if kind == "truncate":
            data = data[:at]
        elif kind == "flip" and at < len(data):
            data = data[:at] + bytes((data[at] ^ (1 << second % 8),)) + data[at + 1 :]
        elif kind == "insert":
            data = data[:at] + token + data[at:]
        elif kind == "remove":
            data = data[:at] + data[until:]
        else:
            data = data[:until] + data[at:until] + data[until:]
    return data


def _lines(examples: Sequence[Any], rng: random.Random) -> bytes:
    lines = [as_json(edited(rng.choice(examples), random_edits(rng))) for _ in range(rng.randint(1, 4))]
    return b"\n".join(lines) + rng.choice((b"\n", b"\n", b""))


def _sometimes_broken(data: bytes, rng: random.Random) -> bytes:
    return broken(data, random_byte_edits(rng)) if rng.random() < 0.25 else data


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of a document as what holds it and where."""
    parts = enumerate(value) if isinstance(value, list) else value.items() if isinstance(value, dict) else ()
    for key, part in list(parts):
        yield value, key
        yield from _places(part)
