"""Apply a policy to a run and its baseline: a ruling on every requirement, and one on all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from smaug_eval._version import __version__
from smaug_eval.common.errors import EXIT_CANNOT_TELL, EXIT_DONE, EXIT_GATE_FAILED, SmaugError
from smaug_eval.gating.answers import judged_evidence, training_evidence
from smaug_eval.gating.columns import score_evidence
from smaug_eval.gating.evidence import Evidence
from smaug_eval.gating.policy import ALL, Policy, Requirement, read_policy
from smaug_eval.gating.rulings import Ruling, rule
from smaug_eval.gating.sides import Sides, bring_together

SCHEMA = 1
_NOTHING = "all requirements are optional, and neither side has anything that they are about"
EXIT_CODES = {Ruling.PASS: EXIT_DONE, Ruling.FAIL: EXIT_GATE_FAILED, Ruling.CANNOT_TELL: EXIT_CANNOT_TELL}


@dataclass(frozen=True)
class Check:
    """Hold the ruling on one requirement for one model.

    Attributes:
        model: The gated model; the training's name for a log-ratio.
        requirement: What is required, as a phrase.
        ruling: What it comes to.
        reason: Why, as a phrase.
        evidence: The numbers behind it.
    """

    model: str
    requirement: str
    ruling: Ruling
    reason: str
    evidence: Evidence

    @property
    def subject(self) -> str:
        """Return what it is about, with its table."""
        return f"{self.evidence.subject} ({self.evidence.where})" if self.evidence.where else self.evidence.subject

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        evidence = {key: _plain(value) for key, value in asdict(self.evidence).items()}
        return {
            "model": self.model,
            "requirement": self.requirement,
            "verdict": self.ruling.value,
            "reason": self.reason,
            **evidence,
        }


@dataclass(frozen=True)
class GateResult:
    """Hold what a gate came to.

    Attributes:
        policy: The policy's name.
        baseline: The baseline's name; None where only trainings were gated.
        models: The gated models.
        checks: One per model and subject, in the policy's order.
        notes: What was found out while reading.
    """

    policy: str
    baseline: str | None
    models: Sequence[str]
    checks: Sequence[Check]
    notes: Sequence[str] = ()

    @property
    def ruling(self) -> Ruling:
        """Return "fail" where one requirement failed, else "cannot tell" where one cannot be told or none was met."""
        found = {check.ruling for check in self.checks}
        if Ruling.FAIL in found:
            return Ruling.FAIL
        return Ruling.PASS if found == {Ruling.PASS} else Ruling.CANNOT_TELL

    @property
    def verdict(self) -> str:
        """Return ``pass``, ``fail`` or ``cannot tell``."""
        return self.ruling.value

    @property
    def exit_code(self) -> int:
        """Return 0 for pass, 4 for fail and 5 for cannot tell."""
        return EXIT_CODES[self.ruling]

    def count(self, ruling: Ruling) -> int:
        """Count the requirements that came to ``ruling``."""
        return sum(check.ruling is ruling for check in self.checks)

    @property
    def words(self) -> str:
        """Word the counts as a phrase, such as "1 of 7 requirements failed, 2 cannot be told"."""
        number = len(self.checks)
        of_all = f"{number} requirement{'' if number == 1 else 's'}"
        failed, open_ = self.count(Ruling.FAIL), self.count(Ruling.CANNOT_TELL)
        if not failed and not open_:
            return f"all of {of_all} passed" if number > 1 else "the only requirement passed"
        parts = [f"{failed} failed"] if failed else []
        parts += [f"{open_} undecided"] if open_ else []
        return f"of {of_all} {', '.join(parts)}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain data for JSON; what is not a finite number is None.

        Keys: ``schema``, ``version`` (of smaug-eval), ``verdict``, ``exit_code``, ``policy``, ``baseline``, ``models``,
        ``notes`` and ``checks``: each has ``model``, ``requirement``, ``verdict``, ``reason`` and the fields of
        :class:`smaug_eval.gating.evidence.Evidence`.
        """
        return {
            "schema": SCHEMA,
            "version": __version__,
            "verdict": self.verdict,
            "exit_code": self.exit_code,
            "policy": self.policy,
            "baseline": self.baseline,
            "models": list(self.models),
            "checks": [check.as_dict() for check in self.checks],
            "notes": list(self.notes),
        }


def gate_run(
    run: Path,
    baseline: str | None = None,
    *,
    policy: Path | Mapping[str, Any] | None = None,
    models: Sequence[str] = (),
    baseline_model: str | None = None,
    metrics: Sequence[str] = (),
) -> GateResult:
    """Judge the models of a run by a policy.

    Differences, intervals and verdicts are those of a report over the same paths: paired by document where both sides
    have samples; p values of averages adjusted by Holm's method over the run's models, those of columns over the
    columns of a table. Non-inferiority takes the 95% interval of the difference, which is not adjusted: all
    requirements must pass, and such a rule keeps its level (R. L. Berger, Technometrics 24, 1982).

    Args:
        run: A run directory, a file or folder of results, a folder of a training, or FastChat's files.
        baseline: A model of the run, or the path of another run; the run's model "base" where None.
        policy: A YAML file or plain data; :data:`smaug_eval.gating.policy.DEFAULT_POLICY` where None.
        models: The models to judge; where empty all but the baseline.
        baseline_model: Which model of the path ``baseline``.
        metrics: Metrics to stand for tasks of no suite, as a report takes them.

    Raises:
        SmaugError: the policy is wrong, a path cannot be read, or a name is unknown.
    """
    checked = read_policy(policy)
    sides = bring_together(run, baseline, models=models, baseline_model=baseline_model, metrics=metrics)
    try:
        checks = list(_checks(checked, sides))
    except SmaugError as error:
        where = policy if isinstance(policy, Path) else checked.name
        raise SmaugError(f"{where}: {error.message}", fix=error.fix) from error
    if not checks:
        nothing = Evidence(where="", subject="all requirements", why_not=_NOTHING)
        checks = [Check("models", "something to judge by", Ruling.CANNOT_TELL, _NOTHING, nothing)]
    if sides.unread:
        lost = Evidence(where="", subject="all results", why_not="; ".join(sides.unread))
        checks.append(Check("results", "readable", Ruling.CANNOT_TELL, lost.why_not, lost))
    return GateResult(checked.name, sides.baseline, list(sides.models), checks, sides.notes)


def _checks(policy: Policy, sides: Sides) -> Iterator[Check]:
    for number, requirement in enumerate(policy.requirements):
        try:
            yield from _check(requirement, sides)
        except SmaugError as error:
            raise SmaugError(f"requirements.{number}: {error.message}", fix=error.fix) from error


def _check(requirement: Requirement, sides: Sides) -> Iterator[Check]:
    if requirement.log_ratio is not None:
        found = training_evidence(requirement, sides)
        yield from (_ruled(requirement, each.subject.removeprefix("training "), each) for each in found)
        if not found and not requirement.optional:
            yield _missing(requirement, "trainings")
        return
    for model in sides.models:
        of_model = (
            score_evidence(requirement, sides, model)
            if requirement.mt_bench is None
            else list(judged_evidence(requirement.mt_bench, sides, model))
        )
        yield from (_ruled(requirement, model, each) for each in of_model)
        if not of_model and not requirement.optional:
            yield _missing(requirement, model)
    if not sides.models and not requirement.optional:
        yield _missing(requirement, "models")


def _ruled(requirement: Requirement, model: str, found: Evidence) -> Check:
    ruling, reason = rule(requirement, found)
    return Check(model, requirement.words, ruling, reason, found)


def _missing(requirement: Requirement, model: str) -> Check:
    """Rule that nothing can be told of what neither side has."""
    name = {"average": "average", "mt_bench": "judged answers", "log_ratio": "log-ratio"}.get(requirement.subject, "")
    subject = requirement.name if not name else name if requirement.name == ALL else f"{name} {requirement.name}"
    subject = "columns" if (requirement.subject, requirement.name) == ("column", ALL) else subject
    why_not = "neither side has it" if not requirement.except_ else "neither side has one beside those left out"
    found = Evidence(where=requirement.suite or "", subject=subject, why_not=why_not)
    return Check(model, requirement.words, Ruling.CANNOT_TELL, why_not, found)


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    if isinstance(value, Ruling) or hasattr(value, "value"):
        return value.value
    return None if isinstance(value, float) and not math.isfinite(value) else value
