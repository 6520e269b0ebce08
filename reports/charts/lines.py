"""Draw charts as inline SVG that follows the page's colours, scales with it and carries a text alternative."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup

from smaug_eval.common.text import significant, visible
from smaug_eval.results.trainings import Training

if TYPE_CHECKING:  # half a second each, which a page without charts and every other verb need not wait for
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

LOG_RATIOS = {"chosen": "log_ratios/chosen", "rejected": "log_ratios/rejected"}
MAX_POINTS = 300
MARKED_POINTS = 40
SYMLOG_RATIO = 50.0
MAX_LABEL = 40
"""Most characters of a name in a legend."""

# Colours that stand for CSS variables of the page: matplotlib wants a colour, the page has a light and a dark one.
_CSS_COLOURS = {
    "#010101": "currentColor",
    "#020202": "var(--grid)",
    "#030303": "var(--chosen)",
    "#040404": "var(--rejected)",
    "#050505": "var(--good)",
    "#060606": "var(--alarm)",
    "#070707": "var(--soft)",
    "#080801": "var(--model-1)",
    "#080802": "var(--model-2)",
    "#080803": "var(--model-3)",
    "#080804": "var(--model-4)",
    "#080805": "var(--model-5)",
    "#080806": "var(--model-6)",
}
INK, GRID, CHOSEN, REJECTED, GOOD, ALARM, SOFT, *MODEL_COLOURS = _CSS_COLOURS
_SERIES_COLOURS = {"chosen": CHOSEN, "rejected": REJECTED}
_STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
}
_NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


class ChartLine(NamedTuple):
    """Describe one line of a chart: its name in the legend, its points, and how it is drawn.

    ``low`` and ``high`` are the ends of each point's interval, NaN where it has none; empty for a line without.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str
    is_dashed: bool = False
    low: Sequence[float] = ()
    high: Sequence[float] = ()


class Scale(NamedTuple):
    """Describe a vertical scale that several charts share; ``linear_within`` is None where it is linear throughout."""

    low: float
    high: float
    linear_within: float | None


def chart_style(key: str) -> AbstractContextManager[None]:
    """Return what charts are drawn under; ``key`` makes matplotlib's ids the same on every run."""
    import matplotlib as mpl

    return mpl.rc_context(_STYLE | {"svg.hashsalt": key})


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches, which arranges its parts without overlaps."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def ticks_at_whole_numbers(axis: Axis) -> None:
    """Let an axis be marked at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True))


def legend_label(name: str) -> str:
    """Return a name as a legend shows it: of a long one the beginning and the end."""
    shown = visible(name)
    if len(shown) > MAX_LABEL:
        half = (MAX_LABEL - 1) // 2
        shown = f"{shown[:half]}…{shown[-half:]}"
    return f" {shown}" if shown.startswith("_") else shown  # matplotlib leaves out labels that begin with it


def series(training: Training, split: str, column: str) -> pd.Series:
    """Return logged values of one column on one split, indexed by step, without gaps."""
    import pandas as pd

    rows = training.rows
    if column not in rows.columns:
        return pd.Series(dtype=float)
    return rows[rows["split"] == split].set_index("step")[column].replace([np.inf, -np.inf], np.nan).dropna()


def thinned(values: pd.Series, limit: int = MAX_POINTS) -> pd.Series:
    """Return ``values`` as at most ``limit`` means over neighbouring steps, each at its last step."""
    width = -(-len(values) // limit)
    if width <= 1:
        return values
    import pandas as pd

    group = np.arange(len(values)) // width
    means = values.groupby(group).mean()
    means.index = pd.Index(values.index.to_series().groupby(group).last())
    return means


def _all_series(trainings: Sequence[Training]) -> list[pd.Series]:
    found = [
        series(each, split, column)
        for each in trainings
        for split in ("train", "eval")
        for column in LOG_RATIOS.values()
    ]
    return [thinned(values) for values in found if not values.empty]


def shared_scale(trainings: Sequence[Training]) -> Scale:
    """Return one vertical scale for the log-ratios of all trainings.

    Logarithmic away from zero only where the largest curve is more than ``SYMLOG_RATIO`` times the smallest, which
    would lie flat on the zero line otherwise.
    """
    curves = _all_series(trainings)
    low = min((float(values.min()) for values in curves), default=0.0)
    high = max((float(values.max()) for values in curves), default=0.0)
    peaks = [peak for values in curves if (peak := float(values.abs().max())) > 0]
    needs_log = bool(peaks) and max(peaks) > SYMLOG_RATIO * min(peaks)
    if needs_log:
        linear = 10.0 ** np.floor(np.log10(max(min(peaks), max(peaks) * 1e-6)))
        return Scale(min(low * 1.4, -linear), max(high * 1.4, linear), float(linear))
    margin = 0.06 * (max(high, 0) - min(low, 0)) or 1.0
    return Scale(min(low, 0) - margin, max(high, 0) + margin, None)


def log_ratio_chart(training: Training, scale: Scale, *, key: str, title: str, description: str) -> Markup:
    """Draw chosen and rejected log-ratios of one training against the step; the reference is the zero line.

    Args:
        scale: From :func:`shared_scale`, so that charts side by side compare.
        key: Distinguishes this chart's element ids from those of others on the page.
        title: Short text alternative.
        description: What the curves do, as text.
    """
    with chart_style(key):
        figure = new_figure(4.6, 3.0)
        axes = figure.add_subplot()
        axes.axhline(0, color=INK, linewidth=1.0, alpha=0.7)
        for name, column in LOG_RATIOS.items():
            _draw(axes, thinned(series(training, "train", column)), _SERIES_COLOURS[name], is_eval=False)
            _draw(axes, thinned(series(training, "eval", column)), _SERIES_COLOURS[name], is_eval=True, name=name)
        if scale.linear_within is not None:
            axes.set_yscale("symlog", linthresh=scale.linear_within)
            axes.yaxis.set_major_formatter(lambda value, _: significant(value))  # the own one writes formulas
        axes.set_ylim(scale.low, scale.high)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        ticks_at_whole_numbers(axes.xaxis)
        axes.set_xlabel("step")
        axes.set_ylabel("mean log-ratio (nats)")
        return inline_svg(figure, key=key, title=title, description=description)


def line_chart(
    lines: Sequence[ChartLine],
    *,
    key: str,
    title: str,
    description: str,
    labels: tuple[str, str],
    limits: tuple[float, float] | None = None,
    marked_x: float | None = None,
) -> Markup:
    """Return the lines with a legend.

    Args:
        lines: At least one.
        key: Distinguishes this chart's element ids from those of others on the page.
        title: Short text alternative.
        description: What the lines do, as text.
        labels: Of the horizontal and the vertical axis.
        limits: Of the vertical axis; as the lines need where None.
        marked_x: Where a vertical line goes.
    """
    with chart_style(key):
        figure = new_figure(4.6, 2.8)
        axes = figure.add_subplot()
        reach = [x for line in lines for x in line.x]
        apart = 0.008 * (max(reach) - min(reach))  # so that intervals of several lines do not hide each other
        for place, line in enumerate(lines):
            marker, style = ("", "--") if line.is_dashed else ("o" if len(line.x) < MARKED_POINTS else "", "-")
            axes.plot(
                line.x,
                line.y,
                color=line.colour,
                linestyle=style,
                linewidth=1.6,
                marker=marker,
                markersize=3,
                label=legend_label(line.label),
            )
            if line.low:
                beside = [x + apart * (place - (len(lines) - 1) / 2) for x in line.x]
                axes.vlines(beside, line.low, line.high, color=line.colour, linewidth=1.2, alpha=0.6)
        if marked_x is not None:
            axes.axvline(marked_x, color=INK, linewidth=0.8, alpha=0.6)
        if limits is not None:
            axes.set_ylim(*limits)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        ticks_at_whole_numbers(axes.xaxis)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.legend(frameon=False, fontsize=8)
        return inline_svg(figure, key=key, title=title, description=description)


def bar_chart(
    heights: Sequence[float], names: Sequence[str], *, key: str, title: str, labels: tuple[str, str]
) -> Markup:
    """Draw bars side by side; the text alternative lists them all.

    Args:
        heights: One per bar.
        names: Below the bars.
        key: Distinguishes this chart's element ids from those of others on the page.
        title: Short text alternative.
        labels: Of the horizontal and the vertical axis.
    """
    with chart_style(key):
        figure = new_figure(4.6, 2.4)
        axes = figure.add_subplot()
        axes.bar(range(len(heights)), heights, color=CHOSEN, width=0.85)
        axes.set_xticks(range(len(names)), names)
        ticks_at_whole_numbers(axes.yaxis)
        axes.grid(axis="y")
        axes.set_axisbelow(True)
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        described = "; ".join(f"{name}: {height:g}" for name, height in zip(names, heights, strict=True))
        return inline_svg(figure, key=key, title=title, description=f"{described}.")


def _draw(axes: Axes, values: pd.Series, colour: str, *, is_eval: bool, name: str = "") -> None:
    if not is_eval:
        axes.plot(values.index, values, color=colour, linewidth=0.9, alpha=0.45)
        return
    marker = {"chosen": "o", "rejected": "s"}[name] if len(values) < MARKED_POINTS else ""
    axes.plot(values.index, values, color=colour, linewidth=1.8, marker=marker, markersize=3.5)


def inline_svg(figure: Figure, *, key: str, title: str, description: str) -> Markup:
    """Return a figure as an ``<svg>`` element to put into HTML.

    Ids get the prefix ``key``, the placeholder colours become the page's CSS variables, and ``title`` and
    ``description`` become the element's text alternative. It carries no style sheet, size or namespace of its own.
    """
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata=_NO_METADATA)
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - matplotlib wrote it just now
    for parent in list(root.iter()):
        for child in [each for each in parent if each.tag.endswith(("}metadata", "}style"))]:
            parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: _rewired(name, value, key) for name, value in element.attrib.items()}
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{key}-title {key}-description", "class": "chart"}
    for position, (tag, text) in enumerate([("title", title), ("desc", description)]):
        element = ElementTree.Element(tag, id=f"{key}-{'title' if tag == 'title' else 'description'}")
        element.text = visible(text)
        root.insert(position, element)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=True))  # noqa: S704 - serialised XML


def _rewired(name: str, value: str, key: str) -> str:
    """An attribute's value with ids made unique on the page and placeholder colours replaced."""
    if name == "id":
        return f"{key}-{value}"
    if name.endswith("href"):
        return value.replace("#", f"#{key}-")
    value = re.sub(r"url\(#", f"url(#{key}-", value)
    return re.sub("|".join(_CSS_COLOURS), lambda match: _CSS_COLOURS[match.group()], value)
