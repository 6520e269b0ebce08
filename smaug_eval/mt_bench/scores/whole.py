"""Compute everything that judgments give as plain data: by model, and of the judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.mt_bench.files.foreign import is_human
from smaug_eval.mt_bench.files.records import Judgments
from smaug_eval.mt_bench.scores.agreement import agreements, judges_of, panel_scores
from smaug_eval.mt_bench.scores.conditions import condition_notes
from smaug_eval.mt_bench.scores.pairs import model_strengths, pair_scores, pairs_without_verdict, position_bias
from smaug_eval.mt_bench.scores.single import ModelScores, scores_as_json, single_scores

OF_ALL = "judgments"
"""The key beside the models' that holds what is true of all judgments together."""


def scores(judgments: Judgments, *, judge: str | None = None, baseline: str | None = None) -> dict[str, Any]:
    """Return the scores as plain data, and all that a reader needs beside them.

    Args:
        judgments: Of single answers, of pairs, or of both.
        judge: Whose; all of them, and how far they agree, if None.
        baseline: Count only pairs with this model.

    Returns:
        By model what :func:`smaug_eval.mt_bench.scores.single.scores_as_json` says and, of single answers,
        ``intervals``, ``by_category``, ``later`` (third turns and so on), ``strict``, ``raw`` (FastChat's rule on the
        whole text, None where it is the same), ``raw_differences``, ``beyond_scale``, ``variance``; of pairs,
        ``failed``, ``interval``, ``strict``, ``raw``, ``raw_differences``, ``strength`` (Bradley and Terry's, of three
        models and more); where judgments are missing, ``missing``; and ``notes``. With several judges a model has
        ``by_judge`` with these and, of single answers, ``panel``.

        Under ``judgments``: ``judges``, ``single`` and ``pairs`` (how many), ``missing`` with ``missing_by_reason``,
        ``position_bias`` by judge, ``agreement`` of every two judges, and ``notes``.

    Raises:
        SmaugError: there is no such judge, or the baseline is in no pair.
    """
    chosen = judgments if judge is None else of_judge(judgments, judge)
    names = list(dict.fromkeys(record.judge[0] for record in chosen.every))
    asked = [name for name in names if not is_human(name)] or names
    found: dict[str, dict[str, Any]] = {}
    if len(names) <= 1:
        found = _of_one(chosen, baseline)
    else:
        for name in asked:
            for model, own in _of_one(of_judge(chosen, name), baseline).items():
                found.setdefault(model, {"by_judge": {}})["by_judge"][name] = own
        for model, panel in panel_scores(chosen.single).items():
            found.setdefault(model, {"by_judge": {}})["panel"] = asdict(panel)
    for model, number in missing_by_model(chosen).items():
        found.setdefault(model, {})["missing"] = number
    found[OF_ALL] = _of_all(chosen, asked)
    return found


def of_judge(judgments: Judgments, judge: str) -> Judgments:
    """Return the judgments of one judge.

    Raises:
        SmaugError: there is none of that name.
    """
    single = [record for record in judgments.single if record.judge[0] == judge]
    pairs = [record for record in judgments.pairs if record.judge[0] == judge]
    if not single and not pairs:
        here = ", ".join(sorted({record.judge[0] for record in judgments.every}))
        raise SmaugError(f"no judgment is by {judge!r}, only by {here}", fix="choose one of these")
    return Judgments(single, pairs, list(judgments.notes), list(judgments.missing))


def missing_by_model(judgments: Judgments) -> dict[str, int]:
    """Return how many judgments of a model's answers are missing, where it is known which."""
    models = (model for each in judgments.missing for model in each.get("models") or ())
    return dict(Counter(map(str, models)))


def missing_reasons(judgments: Judgments) -> dict[str, int]:
    """Return how many judgments are missing for which reason, the commonest first."""
    return dict(Counter(str(each.get("reason", "not recorded")) for each in judgments.missing).most_common())


def _of_one(judgments: Judgments, baseline: str | None) -> dict[str, dict[str, Any]]:
    """Scores by one judge, by model."""
    found = scores_as_json(judgments, baseline=baseline)
    for model, single in single_scores(judgments.single).items() if judgments.single else ():
        found[model] |= _single(single)
    if not judgments.pairs:
        return found
    strengths = {} if baseline is not None else model_strengths(judgments.pairs)
    for model, pair in pair_scores(judgments.pairs, baseline=baseline).items():
        own = asdict(pair)
        strength = strengths.get(model)
        own["strength"] = None if strength is None else asdict(strength)
        found[model] = _joined(found.get(model, {}), own)
    for model, failed in pairs_without_verdict(judgments.pairs).items():
        if model != baseline:
            empty: dict[str, Any] = {
                "win": 0,
                "loss": 0,
                "tie": 0,
                "win_rate_adjusted": None,
                "failed": failed,
                "notes": [],
            }
            found[model] = _joined(found.get(model, {}), empty)
    return found


def _joined(single: Mapping[str, Any], pairs: Mapping[str, Any]) -> dict[str, Any]:
    """A model's scores of both kinds; where both have a key, the pairs' is under ``pairs``."""
    both = {key: value for key, value in pairs.items() if key in single and key not in ("win", "loss", "tie")}
    both.pop("win_rate_adjusted", None)
    rest = {key: value for key, value in pairs.items() if key not in both}
    return {**single, **rest, **({"pairs": both} if both else {})}


def _single(own: ModelScores) -> dict[str, Any]:
    return {
        "intervals": dict(own.intervals),
        "later": {str(turn): value for turn, value in own.later.items()},
        "by_category": {name: asdict(score) for name, score in own.by_category.items()},
        "strict": None if own.strict is None else asdict(own.strict),
        "raw": None if own.raw is None else asdict(own.raw),
        "raw_differences": own.raw_differences,
        "beyond_scale": own.beyond,
        "variance": None if own.variance is None else asdict(own.variance),
        "notes": list(own.notes),
    }


def _of_all(judgments: Judgments, asked: list[str]) -> dict[str, Any]:
    by_judge = {name: of_judge(judgments, name) for name in asked}
    return {
        "judges": judges_of(judgments),
        "single": len(judgments.single),
        "pairs": len(judgments.pairs),
        "missing": len(judgments.missing),
        "missing_by_reason": missing_reasons(judgments),
        "position_bias": {name: asdict(position_bias(own.pairs)) for name, own in by_judge.items() if own.pairs},
        "agreement": [asdict(each) for each in agreements(judgments)],
        "notes": [*judgments.notes, *condition_notes(judgments)],
    }
