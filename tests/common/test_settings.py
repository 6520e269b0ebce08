"""Keys that came later are no part of what decides a result while they hold their default."""

from __future__ import annotations

from pydantic import BaseModel, Field

from smaug_eval.common.settings import ADDED, added_settings, deciding_settings


class Inner(BaseModel):
    old: int = 1
    new: int = Field(2, json_schema_extra=ADDED)
    many: list[int] = Field(default_factory=list, json_schema_extra=ADDED)


class Outer(BaseModel):
    name: str = "x"
    weight: float = Field(0.5, alias="lambda", json_schema_extra=ADDED)
    one: Inner = Field(default_factory=Inner)
    several: list[Inner] = Field(default_factory=list)
    by_name: dict[str, Inner] = Field(default_factory=dict)
    free: dict[str, object] = Field(default_factory=dict)


def test_added_keys_are_left_out_while_they_hold_their_default() -> None:
    assert deciding_settings(Outer()) == {
        "name": "x", "one": {"old": 1}, "several": [], "by_name": {}, "free": {},
    }  # fmt: skip


def test_other_values_stay_wherever_they_are() -> None:
    changed = Outer(
        **{"lambda": 0.7},
        several=[Inner(), Inner(new=3)],
        by_name={"a": Inner(many=[1])},
        free={"new": 2, "deep": {"many": []}},
    )
    assert deciding_settings(changed, ("name",)) == {
        "lambda": 0.7,
        "one": {"old": 1},
        "several": [{"old": 1}, {"old": 1, "new": 3}],
        "by_name": {"a": {"old": 1, "many": [1]}},
        "free": {"new": 2, "deep": {"many": []}},
    }


def test_a_default_that_was_written_out_is_the_default() -> None:
    assert deciding_settings(Inner(new=2)) == deciding_settings(Inner()) == {"old": 1}


def test_added_settings_are_the_added_keys_alone() -> None:
    assert added_settings(Outer()) == {}
    assert added_settings(Outer(**{"lambda": 1.0}, name="y")) == {"lambda": 1.0}
    assert added_settings(Inner(new=5, many=[1]), ("many",)) == {"new": 5}
