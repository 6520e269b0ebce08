"""Find the evidence of judged answers, and of what trainings did to the preferred answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from smaug_eval import stats
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest
from smaug_eval.gating.evidence import MEND, Evidence
from smaug_eval.gating.policy import ALL, DETECTED_JUDGED, DETECTED_NATS, Requirement
from smaug_eval.gating.sides import Sides
from smaug_eval.mt_bench.scores.single import single_scores
from smaug_eval.reports.panels.headline import preferred_likelihood
from smaug_eval.reports.statements import judged_differences
from smaug_eval.results.judged import JudgedSet
from smaug_eval.results.trainings import Training
from smaug_eval.stats import Outcome
from smaug_eval.stats.means import Z


def training_evidence(requirement: Requirement, sides: Sides) -> list[Evidence]:
    """Find the preferred answers' last log-ratio of each training that a requirement is about.

    Raises:
        SmaugError: there is no training of that name.
    """
    wanted = requirement.log_ratio
    every = [training.name for training in sides.comparison.trainings]
    if wanted != ALL and every and not any(_ends_with(name, str(wanted)) for name in every):
        raise SmaugError(f"log_ratio {wanted!r} is no training of the run{nearest(str(wanted), every)}", fix=MEND)
    trainings = [
        each
        for each in sides.comparison.trainings
        if (each.name in sides.trainings if wanted == ALL else _ends_with(each.name, str(wanted)))
    ]
    return [_log_ratio(each) for each in trainings]


def _ends_with(name: str, wanted: str) -> bool:
    return name == wanted or name.endswith(f"/{wanted}")


def _log_ratio(training: Training) -> Evidence:
    name = training.name
    fall = preferred_likelihood(training)
    if fall is None:
        return Evidence(where="training", subject=name, unit="nats", why_not="no log-ratios were logged")
    interval, detectable = None, None
    if fall.error is not None:
        interval = (fall.log_ratio - Z * fall.error, fall.log_ratio + Z * fall.error)
        detectable = stats.detectable_difference(fall.error)
    sign = Outcome.BETTER if fall.log_ratio > 0 else Outcome.WORSE
    is_clear = fall.is_clear and fall.log_ratio != 0 and (fall.error is not None or fall.below_reference)
    return Evidence(
        where=f"log-ratio of {fall.answers}",
        subject=f"training {name}",
        unit="nats",
        score=fall.log_ratio,
        score_interval=interval,
        reference=0.0,
        difference=fall.log_ratio,
        interval=interval,
        outcome=sign if is_clear else Outcome.INCONCLUSIVE,
        detectable=detectable,
        must_detect=DETECTED_NATS,
        test="normal interval of the logged standard error",
        remarks=(f"step {fall.step}",),
    )


def judged_evidence(wanted: str, sides: Sides, model: str) -> Iterator[Evidence]:
    """Yield the mean scores of single answers of each question set and judge that a requirement is about.

    Args:
        wanted: Name of a question set or judge, or ``all``.
        sides: What is compared.
        model: The gated model.

    Raises:
        SmaugError: there is no question set and no judge of that name.
    """
    sets = [each for each in sides.comparison.dialogues if wanted in (ALL, each.key.title, each.key.judge)]
    if not sets and sides.comparison.dialogues and wanted != ALL:
        known = [name for each in sides.comparison.dialogues for name in (each.key.title, each.key.judge) if name]
        raise SmaugError(f"mt_bench {wanted!r} is no question set and no judge here{nearest(wanted, known)}", fix=MEND)
    for each in sets:
        yield _of_judged(each, sides, model)


def _of_judged(each: JudgedSet, sides: Sides, model: str) -> Evidence:
    where = f"{each.key.title}, judged by {each.key.judge or 'a judge that is not recorded'}"
    scores = single_scores(each.judgments.single)
    own, other = scores.get(model), scores.get(str(sides.baseline))
    apart = judged_differences(each, sides.baseline).get(model)
    notes: Sequence[str] = () if own is None else own.notes
    unchecked = each.unchecked(model, str(sides.baseline)) if own is not None and other is not None else ""
    missing = [
        f"{each.missing[name]} judgments of {name} are missing"
        for name in (model, str(sides.baseline))
        if name in each.missing
    ]
    known = Evidence(
        where=where,
        subject="mean score",
        unit="of 10",
        score=None if own is None else own.average,
        score_interval=None if own is None else own.intervals["average"],
        reference=None if other is None else other.average,
        remarks=(
            *notes,
            *missing,
            *([unchecked] if unchecked else []),
            *(["the judge is a rule of the demo, no model"] if each.is_demo else []),
        ),
    )
    if differing := each.why_not(model, str(sides.baseline)):
        return replace(known, why_not=differing)
    if apart is None:
        lacking = [name for name, found in ((model, own), (str(sides.baseline), other)) if found is None]
        why_not = f"no scores of single answers of {' and '.join(lacking)}" if lacking else "no question in common"
        return replace(known, why_not=why_not)
    half = None if apart.interval is None else (apart.interval[1] - apart.interval[0]) / 2
    return replace(
        known,
        difference=apart.difference,
        interval=apart.interval,
        p_value=apart.own_p,
        adjusted_p=apart.p_value,
        outcome=apart.outcome,
        held_back=apart.held_back,
        detectable=None if half is None else stats.detectable_difference(half / Z),
        must_detect=DETECTED_JUDGED,
        n=apart.n,
        same_on=apart.n if apart.interval is None and apart.difference == 0 and not apart.stopped else None,
        test=apart.stopped or "sign flips of questions",
    )
