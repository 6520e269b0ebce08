"""Show where in the preferred answers the losses act: log-probability by position, as Fig. 4 of arXiv 2402.13228."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from smaug_eval.common.text import NOT_AVAILABLE, fixed
from smaug_eval.reports.charts.lines import MODEL_COLOURS, SOFT
from smaug_eval.reports.study.answers import StudyTable
from smaug_eval.reports.study.charts import Band, band_chart
from smaug_eval.results.json_files import as_number
from smaug_eval.results.study import StudyResults, StudyTraining
from smaug_eval.stats import Values, standard_error, t_interval

POSITIONS = (-8, 24)
"""Positions shown around the first token that differs."""
FEW = 4
"""Positions at which fewer pairs have a token are left out."""
PUBLISHED = {"reference": -0.37, "dpo": -1.82, "dpop": -0.26}
"""Of the paper's figure, 900 MetaMath samples and a 7B model, by name of the loss."""


class Positions(NamedTuple):
    """Hold the curves of one pair set."""

    pair_set: str
    pairs: str
    chart: Markup


class _Profile(NamedTuple):
    offsets: tuple[int, ...]
    policy: Values
    reference: Values


def position_charts(study: StudyResults) -> list[Positions]:
    """Return a chart for the low and the high set: the reference, the subject and the remedy, means over seeds."""
    asked = study.questions
    found = []
    for number, pair_set in enumerate(dict.fromkeys((asked.low, asked.high))):
        bands = _bands(study, pair_set)
        if bands:
            pairs = max((len(each.held_out) for each in study.of(asked.subject, pair_set)), default=0)
            chart = band_chart(
                bands,
                key=f"study-positions-{number}",
                title=f"Log-probability of preferred tokens by position, pairs of {pair_set}",
                description=f"0 is the first token that differs. {_described(bands)}",
                labels=("tokens from the first that differs", "mean log-probability (nats)"),
                marked_x=0,
            )
            found.append(Positions(pair_set, f"{pairs:,} held-out items", chart))
    return found


def after_edit_table(study: StudyResults) -> StudyTable | None:
    """Return the mean log-probability of all preferred tokens after the first that differs, by arm.

    None where not measured.
    """
    asked = study.questions
    sets = list(dict.fromkeys((asked.low, asked.high)))
    arms = list(dict.fromkeys((asked.subject, asked.remedy, *study.arms)))
    rows = [("reference", *(_after(study, arms, name, "reference") for name in sets), _published(study, None))]
    rows += [(arm, *(_after(study, [arm], name, "policy") for name in sets), _published(study, arm)) for arm in arms]
    rows = [row for row in rows if any(cell != _NONE for cell in row[1:-1])]
    if all(cell in (_NONE, NOT_AVAILABLE) for row in rows for cell in row[1:-1]):
        return None
    caption = (
        "Mean log-probability of the preferred answers' tokens after the first that differs, in nats per token; mean "
        "over seeds with 95% interval over seeds alone. The paper's figures, as notes on it give them, are of a 7B "
        "model"
    )
    return StudyTable(caption, ("arm", *sets, "paper, Fig. 4"), rows)


_NONE = "not measured"


def _published(study: StudyResults, arm: str | None) -> str:
    asked = study.questions
    if arm is None:
        return fixed(PUBLISHED["reference"], 2)
    loss = str(study.arms.get(arm, {}).get("loss"))
    return fixed(PUBLISHED[loss], 2) if arm in (asked.subject, asked.remedy) and loss in PUBLISHED else ""


def _bands(study: StudyResults, pair_set: str) -> list[Band]:
    asked = study.questions
    bands: list[Band] = []
    for place, arm in enumerate((asked.subject, asked.remedy)):
        profiles = [profile for each in study.of(arm, pair_set) if (profile := _profile(each)) is not None]
        shared = sorted(set.intersection(*(set(each.offsets) for each in profiles))) if profiles else []
        if not shared:
            continue
        policy = np.array([[each.policy[each.offsets.index(offset)] for each in profiles] for offset in shared])
        if not bands:
            first = profiles[0]
            line = [float(first.reference[first.offsets.index(offset)]) for offset in shared]
            bands.append(Band("reference", shared, line, line, line, SOFT, is_dashed=True))
        means = [float(row.mean()) for row in policy]
        ends = [_over_seeds(row) or (mean, mean) for row, mean in zip(policy, means, strict=True)]
        low, high = ([end[side] for end in ends] for side in (0, 1))
        bands.append(Band(arm, shared, means, low, [min(end, 0.0) for end in high], MODEL_COLOURS[1 - place]))
    return bands


def _over_seeds(values: Values) -> tuple[float, float] | None:
    error = standard_error(values)
    return None if error is None else t_interval(float(values.mean()), error, len(values))


def _described(bands: Sequence[Band]) -> str:
    reference = next((band for band in bands if band.is_dashed), None)
    parts = []
    for band in bands:
        if reference is not None and band is not reference:
            known = dict(zip(reference.x, reference.y, strict=True))
            gaps = [(y - known[x], x) for x, y in zip(band.x, band.y, strict=True) if x in known]
            if gaps:
                least, where = min(gaps)
                parts.append(f"{band.label}: largest fall against the reference {fixed(least, 2)} nats at {where:.0f}")
    return f"{'; '.join(parts)}."


def _last_profile(each: StudyTraining) -> Mapping[str, Any]:
    found = each.training.last_diagnosis.get("profile")
    return found if isinstance(found, Mapping) else {}


def _profile(each: StudyTraining) -> _Profile | None:
    rows = list(_rows(_last_profile(each)))
    if not rows:
        return None
    offsets, policy, reference = zip(*rows, strict=True)
    return _Profile(tuple(map(int, offsets)), np.array(policy), np.array(reference))


def _rows(profile: Mapping[str, Any]) -> Iterator[tuple[float, float, float]]:
    columns = (profile.get(name) or () for name in ("offsets", "policy", "reference", "pairs"))
    for offset, policy, reference, pairs in zip(*columns, strict=False):
        own, before = as_number(policy), as_number(reference)
        enough = as_number(pairs) >= FEW and POSITIONS[0] <= as_number(offset) <= POSITIONS[1]
        if enough and math.isfinite(own) and math.isfinite(before):
            yield as_number(offset), own, before


def _after(study: StudyResults, arms: Sequence[str], pair_set: str, model: str) -> str:
    values = []
    for each in (each for arm in arms for each in study.of(arm, pair_set)):
        after = _last_profile(each).get("after_edit")
        value = as_number(after.get(model)) if isinstance(after, Mapping) else math.nan
        if math.isfinite(value):
            values.append(value)
    if not values:
        return NOT_AVAILABLE if any(study.was_measured(arm, pair_set) for arm in arms) else _NONE
    ends = _over_seeds(np.array(values)) if model == "policy" else None
    shown = "" if ends is None else f" [{fixed(ends[0], 2)}, {fixed(ends[1], 2)}]"
    return f"{fixed(float(np.mean(values)), 2)}{shown}"
