"""Draw charts of a study: intervals beside each other, and curves with bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from smaug_eval.common.text import signed
from smaug_eval.reports.charts.lines import (
    ALARM,
    GOOD,
    INK,
    MARKED_POINTS,
    SOFT,
    chart_style,
    inline_svg,
    legend_label,
    new_figure,
    ticks_at_whole_numbers,
)
from smaug_eval.reports.study.answers import Test

_ROW_HEIGHT = 0.25


class Band(NamedTuple):
    """Describe a curve with an interval at each point; ``low`` and ``high`` are the points where there is none."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    colour: str
    is_dashed: bool = False


def interval_chart(tests: Sequence[Test], *, key: str, title: str, axis: str) -> Markup:
    """Draw estimates with 95% intervals, a line each, around zero; those that decide are diamonds.

    Args:
        tests: In one unit, at least one.
        key: Distinguishes this chart's element ids from those of others on the page.
        title: Short text alternative; the long one is made from the tests.
        axis: What the horizontal axis shows.
    """
    with chart_style(key):
        figure = new_figure(6.2, 0.75 + _ROW_HEIGHT * len(tests))
        axes = figure.add_subplot()
        axes.axvline(0, color=INK, linewidth=1.0, alpha=0.7)
        for place, test in enumerate(tests):
            colour = GOOD if test.is_above else ALARM if test.is_below else SOFT
            if test.contrast.interval is not None:
                axes.plot(test.contrast.interval, [place, place], color=colour, linewidth=2.6 if test.decides else 1.6)
            marker = "D" if test.decides else "o"
            axes.plot(test.contrast.estimate, place, color=colour, marker=marker, markersize=5)
        axes.set_yticks(range(len(tests)), [legend_label(test.name) for test in tests])
        axes.set_ylim(len(tests) - 0.4, -0.6)
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(axis)
        described = "; ".join(f"{test.name}: {test.shown} ({test.evidence}), {test.outcome_shown}" for test in tests)
        return inline_svg(figure, key=key, title=title, description=f"{described}.")


def band_chart(
    bands: Sequence[Band],
    *,
    key: str,
    title: str,
    description: str,
    labels: tuple[str, str],
    is_log: bool = False,
    marked_x: float | None = None,
    zero_line: bool = False,
) -> Markup:
    """Draw curves with shaded 95% intervals and a legend.

    Args:
        bands: At least one.
        key: Distinguishes this chart's element ids from those of others on the page.
        title: Short text alternative.
        description: What the curves do, as text.
        labels: Of the horizontal and the vertical axis.
        is_log: Whether the horizontal axis is logarithmic, with a tick at each point.
        marked_x: Where a vertical line goes.
        zero_line: Whether a horizontal line goes through 0.
    """
    with chart_style(key):
        figure = new_figure(5.0, 3.2)
        axes = figure.add_subplot()
        if zero_line:
            axes.axhline(0, color=INK, linewidth=1.0, alpha=0.7)
        for band in bands:
            if any(low < high for low, high in zip(band.low, band.high, strict=True)):
                axes.fill_between(band.x, band.low, band.high, color=band.colour, alpha=0.16, linewidth=0)
            axes.plot(
                band.x,
                band.y,
                color=band.colour,
                linestyle="--" if band.is_dashed else "-",
                linewidth=1.6,
                marker="o" if len(band.x) < MARKED_POINTS and not band.is_dashed else "",
                markersize=3,
                label=legend_label(band.label),
            )
        if is_log:
            from matplotlib.ticker import FuncFormatter, NullLocator

            points = sorted({x for band in bands for x in band.x})
            axes.set_xscale("log", base=2)
            axes.set_xticks(points)
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.1f}"))
        else:
            ticks_at_whole_numbers(axes.xaxis)
        if marked_x is not None:
            axes.axvline(marked_x, color=INK, linewidth=0.8, alpha=0.6)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(frameon=False, fontsize=8)
        return inline_svg(figure, key=key, title=title, description=description)


def band_words(bands: Sequence[Band]) -> str:
    """Return the first and the last point of each curve: a text alternative."""
    ends = (
        f"{band.label}: {signed(band.y[0], 2)} at {band.x[0]:.1f}, {signed(band.y[-1], 2)} at {band.x[-1]:.1f}"
        for band in bands
    )
    return f"{'; '.join(ends)}."
