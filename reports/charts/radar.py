"""Draw the radar of scores by category, as people know it from MT-Bench."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from markupsafe import Markup

from smaug_eval.common.text import fixed
from smaug_eval.mt_bench.scores.single import ModelScores
from smaug_eval.reports.charts.lines import MODEL_COLOURS, chart_style, inline_svg, legend_label, new_figure

_LEAST_CATEGORIES = 3
_MARKERS = "osD^vP"


def radar(scores: Mapping[str, ModelScores], categories: Sequence[str], *, key: str, title: str) -> Markup | None:
    """Return a closed line per model over the categories, 0 to 10 from the middle outwards.

    The first six models are drawn, best first. A category that a model was not judged on leaves a gap in its line.

    Args:
        scores: Of each model, best first.
        categories: In clockwise order from the top.
        key: Distinguishes this chart's element ids from those of others on the page.
        title: What was judged.

    Returns:
        None with fewer than three categories, which span no area.
    """
    if len(categories) < _LEAST_CATEGORIES or not scores:
        return None
    angles = [2 * math.pi * place / len(categories) for place in range(len(categories))]
    drawn = dict(list(scores.items())[: len(MODEL_COLOURS)])
    with chart_style(key):
        figure = new_figure(5.2, 4.8)
        axes = figure.add_subplot(projection="polar", theta_offset=math.pi / 2, theta_direction=-1)
        for (model, own), colour, marker in zip(drawn.items(), MODEL_COLOURS, _MARKERS, strict=False):
            values = [own.by_category[name].mean if name in own.by_category else math.nan for name in categories]
            closed, label = [*values, values[0]], legend_label(model)
            axes.plot([*angles, angles[0]], closed, color=colour, marker=marker, markersize=4, label=label)
        axes.set_xticks(angles, categories)
        axes.tick_params(axis="x", pad=6)
        for angle, text in zip(angles, axes.get_xticklabels(), strict=True):
            text.set_horizontalalignment(_side(angle))
        axes.set_ylim(0, 10)
        axes.set_yticks([2, 4, 6, 8, 10])
        axes.tick_params(axis="y", labelsize=7)
        axes.spines["polar"].set_visible(False)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        return inline_svg(
            figure, key=key, title=f"Scores by category: {title}", description=_described(drawn, categories)
        )


def _side(angle: float) -> Literal["left", "center", "right"]:
    """Which end of a label lies at the circle, at so many radians clockwise from the top."""
    across = math.sin(angle)
    return "center" if abs(across) < 0.1 else "left" if across > 0 else "right"


def _described(scores: Mapping[str, ModelScores], categories: Sequence[str]) -> str:
    lines = []
    for model, own in scores.items():
        parts = [f"{name} {fixed(own.by_category[name].mean, 2)}" for name in categories if name in own.by_category]
        lines.append(f"{model}: {', '.join(parts)}")
    return "; ".join(lines) + "."
