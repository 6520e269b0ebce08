from __future__ import annotations

import math

import pytest

from smaug_eval.common.text import Excerpt, fixed, head, signed, significant, tail, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain <b> & text", "plain <b> & text"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("a\r\nb", "a\nb"),
        ("a\rb", "a⟨U+000D⟩b"),
        ("\x00\x1b[31m\x7f\x85", "⟨U+0000⟩⟨U+001B⟩[31m⟨U+007F⟩⟨U+0085⟩"),
        ("abc\u202egnp.exe", "abc⟨U+202E⟩gnp.exe"),
        ("\u2066x\u2069\u200f\ufeff\u00ad", "⟨U+2066⟩x⟨U+2069⟩⟨U+200F⟩⟨U+FEFF⟩⟨U+00AD⟩"),
        ("a\u2028b\u2029", "a⟨U+2028⟩b⟨U+2029⟩"),
        ("lone \ud800 surrogate", "lone ⟨U+D800⟩ surrogate"),
        ("\uffff\U0001fffe\ufdd0", "⟨U+FFFF⟩⟨U+1FFFE⟩⟨U+FDD0⟩"),
        ("Größe π ≤ 3 日本 👩\u200d🚀 می\u200cخواهم", "Größe π ≤ 3 日本 👩\u200d🚀 می\u200cخواهم"),
    ],
)
def test_visible_shows_what_hides_and_keeps_the_rest(text: str, shown: str) -> None:
    assert visible(text) == shown
    visible(text).encode()


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (41.25, 1, "41.2"),
        (-0.04, 1, "0.0"),
        (-1.26, 1, "−1.3"),
        (None, 1, "n/a"),
        (math.nan, 1, "n/a"),
        (math.inf, 2, "n/a"),
    ],
)
def test_fixed(value: float | None, digits: int, shown: str) -> None:
    assert fixed(value, digits) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1.2, "+1.2"), (-1.2, "−1.2"), (0.0, "0.0"), (0.04, "0.0"), (-0.04, "0.0"), (math.nan, "n/a")]
)
def test_signed_marks_gains_and_leaves_zero_alone(value: float, shown: str) -> None:
    assert signed(value) == shown


def test_significant() -> None:
    assert [significant(value) for value in (0.123456, -12345.678, None)] == ["0.1235", "−1.235e+04", "n/a"]


def test_excerpts_know_the_length_of_the_whole() -> None:
    assert head("abcdef", 4) == Excerpt("abcd", 6)
    assert tail("abcdef", 4) == Excerpt("cdef", 6)
    assert head("abcdef", 4).is_cut
    assert not tail("abcd", 4).is_cut
