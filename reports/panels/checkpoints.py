"""Show how scores of benchmarks went during each training, beside its log-ratios."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from smaug_eval.common.text import fixed
from smaug_eval.reports.charts.lines import MODEL_COLOURS, ChartLine, line_chart
from smaug_eval.results.curves import CurvePoint, ScoreCurve, training_curves
from smaug_eval.results.trainings import Training


class CurveChart(NamedTuple):
    """Hold a chart of the scores of one training's checkpoints.

    Attributes:
        training: Name of the training.
        evaluation: The recipe's name of the evaluation.
        is_development: Whether it is for development alone.
        left_out: Tasks that are in the table and not in the chart.
        chosen: The step whose weights were kept by these scores; None where they decided nothing.
        chart: The chart.
    """

    training: str
    evaluation: str
    is_development: bool
    left_out: tuple[str, ...]
    chosen: int | None
    chart: Markup


class CurveRow(NamedTuple):
    """Hold the score of one checkpoint, for the table."""

    training: str
    evaluation: str
    task: str
    metric: str
    unit: str
    point: CurvePoint
    is_chosen: bool


Followed = Sequence[tuple[Training, Sequence[ScoreCurve]]]


def followed(trainings: Iterable[Training]) -> Followed:
    """Return each training with the curves of its checkpoints' scores."""
    return [(training, training_curves(training)) for training in trainings]


def curve_charts(trainings: Followed) -> list[CurveChart]:
    """Return a chart for each training and each unit of each evaluation that scored its checkpoints."""
    found: list[CurveChart] = []
    for training, own in trainings:
        groups: dict[tuple[str, str], list[ScoreCurve]] = {}
        for curve in own:
            groups.setdefault((curve.evaluation, curve.column.unit.name), []).append(curve)
        for (evaluation, unit), curves in groups.items():
            shown, rest = curves[: len(MODEL_COLOURS)], curves[len(MODEL_COLOURS) :]
            chosen = _chosen(training, evaluation)
            chart = line_chart(
                [_line(curve, colour) for curve, colour in zip(shown, MODEL_COLOURS, strict=False)],
                key=f"checkpoints-{len(found)}",
                title=f"Scores of {evaluation} during the training {training.name}",
                description=_described(shown),
                labels=("step", f"score ({unit})" if unit else "score"),
                marked_x=chosen,
            )
            left_out = tuple(curve.task for curve in rest)
            found.append(CurveChart(training.name, evaluation, curves[0].is_development, left_out, chosen, chart))
    return found


def curve_rows(trainings: Followed) -> Iterator[CurveRow]:
    """Yield the scores of all checkpoints, by training, evaluation, task and step."""
    for training, own in trainings:
        for curve in own:
            chosen = _chosen(training, curve.evaluation)
            for point in curve.points:
                yield CurveRow(
                    training.name,
                    curve.evaluation,
                    curve.task,
                    curve.metric,
                    curve.column.unit.name,
                    point,
                    point.step == chosen,
                )


def choice_sentences(trainings: Iterable[Training]) -> Iterator[str]:
    """Yield which checkpoint was chosen of each training, and by what."""
    for training in trainings:
        if training.chosen:
            metric, scores = str(training.chosen.get("metric")), training.chosen.get("scores")
            step = training.chosen.get("step")
            value = scores.get(str(step)) if isinstance(scores, Mapping) else None
            shown = f" ({fixed(value)})" if isinstance(value, int | float) else ""
            yield (
                f"{training.name} is the checkpoint of step {step}, the best by {metric}{shown} on development "
                "documents, which are none of those reported; log-ratios are of the whole training."
            )


def curve_lines(training: Training, escaped: Callable[[str], str]) -> Iterator[str]:
    """Yield a table in Markdown of the scores of a training's checkpoints; nothing where there are none.

    Args:
        training: The training.
        escaped: Makes a text harmless in Markdown.
    """
    curves = training_curves(training)
    steps = sorted({point.step for curve in curves for point in curve.points})
    if not curves:
        return
    yield from (f"**Checkpoints of {escaped(training.name)}**: score with its 95% interval, by step", "")
    yield f"| evaluation | {' | '.join(map(str, steps))} |"
    yield "|---|" + "---:|" * len(steps)
    for curve in curves:
        points = {point.step: f"{fixed(point.score.value)} {interval_text(point)}".strip() for point in curve.points}
        kind = " (development)" if curve.is_development else ""
        shown = " | ".join(points.get(step, "") for step in steps)
        yield f"| {escaped(f'{curve.evaluation}/{curve.task}')}{kind} | {shown} |"
    yield ""


def curve_numbers(training: Training) -> list[dict[str, Any]]:
    """Return the curves of a training as plain data."""
    return [
        {
            "evaluation": curve.evaluation,
            "development": curve.is_development,
            "task": curve.task,
            "metric": curve.metric,
            "unit": curve.column.unit.name,
            "higher_is_better": curve.column.higher_is_better,
            "points": [_point_numbers(point) for point in curve.points],
        }
        for curve in training_curves(training)
    ]


def interval_text(point: CurvePoint) -> str:
    """Return the interval of a score as text; empty where it has none."""
    return "" if point.score.interval is None else f"[{', '.join(map(fixed, point.score.interval))}]"


def _point_numbers(point: CurvePoint) -> dict[str, Any]:
    apart = point.difference
    return {
        "step": point.step,
        "value": point.score.value,
        "stderr": point.score.stderr,
        "interval": point.score.interval,
        "n": point.score.n,
        "difference": None if apart is None else {"points": apart.points, "interval": apart.interval},
    }


def _chosen(training: Training, evaluation: str) -> int | None:
    metric, step = str(training.chosen.get("metric", "")), training.chosen.get("step")
    return step if metric.partition("/")[0] == evaluation and isinstance(step, int) else None


def _line(curve: ScoreCurve, colour: str) -> ChartLine:
    ends = [point.score.interval or (math.nan, math.nan) for point in curve.points]
    return ChartLine(
        curve.task,
        [point.step for point in curve.points],
        [point.score.value for point in curve.points],
        colour,
        low=[low for low, _ in ends],
        high=[high for _, high in ends],
    )


def _described(curves: Sequence[ScoreCurve]) -> str:
    """The values of some curves: the chart's text alternative."""
    parts = []
    for curve in curves:
        values = ", ".join(
            f"{fixed(point.score.value)} {interval_text(point)}".strip() + f" at step {point.step}"
            for point in curve.points
        )
        parts.append(f"{curve.task}: {values}")
    return "; ".join(parts) + "."
