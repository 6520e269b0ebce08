"""Two views of one run: the leaderboard's scores, and those of lm-eval 0.4.13 from the same outputs.

What both score from the same prompts is recomputed, and each rule's part in the difference is given in points. What
would need other prompts (lm-eval's own draw of shots, a BOS token, an output that no ":" stopped) is named, with the
task to run for it. Scores are in percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from smaug_eval.leaderboard import forms
from smaug_eval.leaderboard.intervals import Values
from smaug_eval.leaderboard.modern import NAME as MODERN_SUITE
from smaug_eval.leaderboard.modern import SUITE as MODERN
from smaug_eval.leaderboard.protocol import TaskSpec
from smaug_eval.leaderboard.scores import ColumnScore, Score, mean_of_means, mean_over_documents, value_score
from smaug_eval.leaderboard.suite import Column

Documents = Mapping[str, Mapping[str, Values]]
"""Leaf task to metric to values per document, as :func:`smaug_eval.leaderboard.rescore.document_metrics` gives them."""

STOP = "':' stop"
_INTERNAL = ("acc_unstopped", "open", "open_flexible")
_MODERN_TASKS = {column.leaves[0].form.name: column.task for column in MODERN.columns}


@dataclass(frozen=True)
class Cause:
    """One reason why the two views differ.

    Attributes:
        name: The rule.
        points: 0.4.13's score minus the leaderboard's through this rule alone, in percentage points; None where these
            outputs cannot say.
        detail: What the rule is, and what is known where ``points`` is None.
        run: lm-eval's own task that has to be run to see it; None where nothing has to be run.
    """

    name: str
    points: float | None
    detail: str
    run: str | None = None


@dataclass(frozen=True)
class ColumnViews:
    """One column in both views.

    Attributes:
        title: The column.
        metric: The leaderboard's metric.
        v1: Its score on the leaderboard's rules.
        modern: Its score on lm-eval 0.4.13's rules; None where the samples do not tell, with a note where they only
            give its least value.
        causes: Why they differ; the known points sum to the difference.
        others: Further metrics of the same outputs: ``acc``, ``mc1``, ``flexible_extract`` and the like.
    """

    title: str
    metric: str
    v1: Score
    modern: Score | None
    causes: tuple[Cause, ...]
    others: dict[str, Score]

    @property
    def modern_is_least(self) -> bool:
        """Whether ``modern`` is a lower bound, because the ":" stop may have cut answers that 0.4.13 would read."""
        return any(cause.name == STOP and cause.points is None for cause in self.causes)


def column_views(column: Column, score: ColumnScore, documents: Documents, *, own_prompts: bool = True) -> ColumnViews:
    """Both views of a column.

    Args:
        column: The column.
        score: Its score in the leaderboard's view.
        documents: Values per document of its leaf tasks; tasks without samples are left out.
        own_prompts: Whether the prompts were the leaderboard's; otherwise they were lm-eval's own.
    """
    form = column.leaves[0].form
    modern, causes = _modern(column, score, documents)
    spec = column.leaves[0]
    prompts = _other_prompts(spec) if own_prompts and form.name in _MODERN_TASKS else ()
    return ColumnViews(
        column.title, column.metric, score.score, modern, (*causes, *prompts), _others(column, documents)
    )


def average_difference(columns: Sequence[ColumnViews]) -> tuple[float, float] | None:
    """Mean of the columns in 0.4.13's view, and how far it is from the leaderboard's; None where a column lacks it."""
    known = [column for column in columns if column.modern is not None]
    if len(known) < len(columns) or not columns:
        return None
    modern = float(np.mean([column.modern.value for column in known if column.modern is not None]))
    return modern, modern - float(np.mean([column.v1.value for column in columns]))


def _modern(column: Column, score: ColumnScore, documents: Documents) -> tuple[Score | None, tuple[Cause, ...]]:
    form = column.leaves[0].form
    if form is forms.MMLU:
        modern = mean_over_documents(list(score.leaves.values()))
        points = modern.value - mean_of_means(list(score.leaves.values())).value
        detail = "tasks weighted by their documents; the leaderboard weighs all alike"
        return modern, (Cause("weighting", points, detail),)
    if form is forms.TRUTHFULQA:
        values = documents.get(column.leaves[0].name, {})
        if "mc2_masked" not in values:
            return None, (Cause("mc2 by labels", None, "the samples with mc2's choices and labels are needed"),)
        modern = value_score(values["mc2_masked"])
        apart = values["mc2_masked"] - values["mc2"]
        detail = f"answers after the first false one that are true count; {np.count_nonzero(apart)} documents differ"
        return modern, (Cause("mc2 by labels", 100 * float(apart.mean()), detail),)
    if form is forms.GSM8K:
        return _modern_solutions(column, documents)
    return score.score, ()  # the same rule in both


def _modern_solutions(column: Column, documents: Documents) -> tuple[Score | None, tuple[Cause, ...]]:
    values = documents.get(column.leaves[0].name, {})
    if "strict_match" not in values:
        return None, (Cause("equality", None, "the samples with the generated texts are needed"),)
    modern = value_score(values["strict_match"])
    equality = 100 * float((values["strict_match"] - values["acc_unstopped"]).mean())
    detail = "a period at the end of the number is ignored"
    causes = [Cause("equality", equality, detail)]
    n_open, n = int(values["open"].sum()), len(values["open"])
    if n_open:
        detail = (
            f"{n_open:,} of {n:,} outputs have no final answer and may have been cut at ':'; 0.4.13 reads on, and "
            f"would score between {modern.value:.2f} and {modern.value + 100 * n_open / n:.2f}"
        )
        causes.append(Cause(STOP, None, detail, "gsm8k"))
        modern = replace(modern, notes=(f"at least: {n_open:,} of {n:,} outputs may have been cut at ':'",))
    else:
        points = 100 * float((values["acc_unstopped"] - values["acc"]).mean())
        causes.append(Cause(STOP, points, "the leaderboard cuts the output at ':' or 'Question'"))
    if n_loose := int(values["open_flexible"].sum()):
        detail = f"{n_loose:,} of {n:,} outputs may have been cut before their last number: flexible_extract may differ"
        causes.append(Cause("flexible-extract", None, detail, "gsm8k"))
    return modern, tuple(causes)


def _other_prompts(spec: TaskSpec) -> tuple[Cause, ...]:
    task = _MODERN_TASKS[spec.form.name]
    draws = f"lm-eval draws others (seed 1234, no shuffle): needs other prompts, eval --suite {MODERN_SUITE}"
    draw = Cause("shots", None, draws, task)
    bos = Cause("BOS", None, "added where the tokenizer asks for it: needs other prompts, from lm-eval itself", task)
    return (draw, bos) if spec.draws_shots and spec.num_fewshot else (bos,)


def _others(column: Column, documents: Documents) -> dict[str, Score]:
    measured = [documents[leaf.name] for leaf in column.leaves if leaf.name in documents]
    if not measured:
        return {}
    names = set.intersection(*(set(values) for values in measured)) - {column.metric, *_INTERNAL}
    return {name: mean_of_means([value_score(values[name]) for values in measured]) for name in sorted(names)}
