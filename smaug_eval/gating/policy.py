"""Define and read a gate's policy: what is required of which scores."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.misfits import key_lines, misfits
from smaug_eval.common.safe_yaml import parse_yaml
from smaug_eval.common.settings import Strict
from smaug_eval.common.suggest import nearest
from smaug_eval.leaderboard import v2_scores
from smaug_eval.leaderboard.registry import SUITES
from smaug_eval.results.boards import SIX, TASKS

ALL = "all"
BETTER, NOT_WORSE = "better", "not worse"
SUITE_NAMES = (*SUITES, SIX, v2_scores.NAME, TASKS)
"""Names of the tables that a report can have."""

SUBJECTS = ("average", "column", "mt_bench", "log_ratio")
DEMANDS = ("is", "at_least", "at_most", "not_worse_by_more_than")

DETECTED_POINTS = 5.0
DETECTED_JUDGED = 1.0
DETECTED_NATS = 5.0
DETECTED_SHARE = 0.05
"""What "not worse" must have been able to see where a requirement does not say: points of a score in percent, points of
a judge, nats of a log-ratio, and a share of the baseline's score for metrics in units of their own."""


class Requirement(Strict):
    """Describe one demand on one subject.

    Attributes:
        average: A suite's name, or ``all``: the average over its columns.
        column: A column's title, a task's name, or ``all``.
        mt_bench: The name of a question set or judge, or ``all``: the mean score of single answers.
        log_ratio: A training's name, or ``all``: the preferred answers' last mean log-ratio to the reference, in nats.
        suite: For ``column``, the only table to look in.
        except_: For ``column: all``, titles or tasks to leave out.
        is_: ``better`` or ``not worse``, as the report's verdict is.
        at_least: The smallest score.
        at_most: The largest score.
        not_worse_by_more_than: Non-inferiority margin: the whole 95% interval of the difference must lie above it.
        confident: For ``at_least`` and ``at_most``, whether the score's whole 95% interval must lie within.
        must_detect: For ``not worse``, the loss that a comparison must find in 80% of cases to count as large enough.
        optional: Leave it out where neither side has the subject.
    """

    average: str | None = None
    column: str | None = None
    mt_bench: str | None = None
    log_ratio: str | None = None
    suite: str | None = None
    except_: list[str] = Field(default_factory=list, alias="except")
    is_: Literal["better", "not worse"] | None = Field(None, alias="is")
    at_least: float | None = None
    at_most: float | None = None
    not_worse_by_more_than: Annotated[float, Field(gt=0)] | None = None
    confident: bool = False
    must_detect: Annotated[float, Field(gt=0)] | None = None
    optional: bool = False

    @field_validator("is_", mode="before")
    @classmethod
    def _spaced(cls, value: object) -> object:
        return value.replace("_", " ") if isinstance(value, str) else value

    @field_validator("average", "suite")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in (ALL, *SUITE_NAMES):
            raise ValueError(f"{value!r} is no suite{nearest(value, (ALL, *SUITE_NAMES))}")
        return value

    @model_validator(mode="after")
    def _says_one_thing(self) -> Requirement:
        for what, keys in (("what is required", DEMANDS), ("of what", SUBJECTS)):
            given = [key for key in keys if self._given(key) is not None]
            if len(given) != 1:
                there = f"there are {' and '.join(given)}" if given else "there is none"
                raise ValueError(f"one of {', '.join(keys)} says {what}; {there}")
        for key, is_given, needs, is_met in (
            ("suite", self.suite is not None, "column", self.column is not None),
            ("except", bool(self.except_), "column: all", self.column == ALL),
            ("confident", self.confident, "at_least or at_most", {self.at_least, self.at_most} != {None}),
            ("must_detect", self.must_detect is not None, "is: not worse", self.is_ == NOT_WORSE),
        ):
            if is_given and not is_met:
                raise ValueError(f"{key} means something with {needs} only")
        return self

    def _given(self, key: str) -> object:
        return getattr(self, f"{key}_" if key == "is" else key)

    @property
    def subject(self) -> str:
        """Return which of :data:`SUBJECTS` it is about."""
        return next(key for key in SUBJECTS if self._given(key) is not None)

    @property
    def name(self) -> str:
        """Return the subject's name."""
        return str(self._given(self.subject))

    @property
    def words(self) -> str:
        """Word the demand as a phrase, such as "not worse by more than 1 with 95%"."""
        if self.is_ is not None:
            return self.is_
        with_95 = " with 95%" if self.confident else ""
        if self.at_least is not None:
            return f"at least {self.at_least:g}{with_95}"
        if self.at_most is not None:
            return f"at most {self.at_most:g}{with_95}"
        return f"not worse by more than {self.not_worse_by_more_than:g} with 95%"


class Policy(Strict):
    """Hold a gate's requirements; all of them must pass.

    Attributes:
        name: What to call the policy.
        requirements: At least one.
    """

    name: str = "policy"
    requirements: Annotated[list[Requirement], Field(min_length=1)]


DEFAULT_POLICY = Policy.model_validate(
    {
        "name": "default policy",
        "requirements": [
            {"average": ALL, "is": NOT_WORSE, "optional": True},
            {"column": ALL, "is": NOT_WORSE},
        ],
    }
)
"""No average and no column worse, where the comparison could have found a loss of 5 points."""


def read_policy(source: Path | Mapping[str, Any] | None) -> Policy:
    """Read and check a policy.

    Args:
        source: A YAML file, plain data, or None for :data:`DEFAULT_POLICY`.

    Raises:
        SmaugError: the file cannot be read or does not fit; the message names file, line and key.
    """
    if source is None:
        return DEFAULT_POLICY
    if isinstance(source, Mapping):
        return _checked(source, "policy", {})
    try:
        text = source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SmaugError(f"{source} is not UTF-8 text", fix="save it as UTF-8") from error
    except OSError as error:
        raise SmaugError(f"{source} cannot be read: {error.strerror or error}", fix="name a YAML file") from error
    raw, node = parse_yaml(text, str(source))
    if not isinstance(raw, dict):
        raise SmaugError(
            f"{source}: a policy is a mapping with the key requirements", fix="docs/gate.md has examples to copy"
        )
    raw.setdefault("name", source.name)
    return _checked(raw, str(source), dict(key_lines(node, ())))


def _checked(raw: Mapping[str, Any], where: str, lines: Mapping[tuple[str, ...], int | str]) -> Policy:
    try:
        return Policy.model_validate(raw)
    except ValidationError as error:
        raise SmaugError(
            misfits(error, Policy, where, lines),
            fix="docs/gate.md explains every key; correct the policy and try again",
        ) from None
