"""Draw forest plots: a line for each difference around zero, written as SVG that follows the page's colours."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from markupsafe import Markup

from smaug_eval.common.text import significant, visible
from smaug_eval.reports.charts.lines import legend_label

_WIDTH, _ROW, _CHARACTER = 560, 24, 6.6
_LEFT = (70, 280)
"""Least and most room for the names."""
_RIGHT, _TOP, _AXIS = 14, 6, 44


class ForestLine(NamedTuple):
    """Describe one line of the plot.

    Attributes:
        title: What it is called.
        points: The difference; None where there is none, and the line stays empty.
        interval: Its 95% interval; None where there is none.
        colour: ``good``, ``alarm`` or ``soft``.
        is_diamond: Whether it is drawn as a diamond with a thick line.
    """

    title: str
    points: float | None
    interval: tuple[float, float] | None
    colour: str
    is_diamond: bool = False


def forest(lines: Sequence[ForestLine], reach: float, *, key: str, title: str, description: str, unit: str) -> Markup:
    """Draw points and 95% intervals around zero.

    It writes the few elements itself: a page for a dozen models has hundreds of these plots.

    Args:
        lines: From top to bottom.
        reach: How far the horizontal axis goes to either side.
        key: Distinguishes this chart's element ids from those of others on the page.
        title: Short text alternative.
        description: Long text alternative.
        unit: Of the differences.
    """
    names = [legend_label(line.title) for line in lines]
    left = min(max([_LEFT[0], *(12 + _CHARACTER * len(name) for name in names)]), _LEFT[1])
    bottom = _TOP + _ROW * len(lines)
    scale = (_WIDTH - left - _RIGHT) / (2 * reach)
    zero = left + reach * scale
    head = Markup(
        '<svg viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-description" class="chart">'
        '<title id="{}-title">{}</title><desc id="{}-description">{}</desc>'
    ).format(_WIDTH, bottom + _AXIS, key, key, key, visible(title), key, visible(description))
    grid = Markup("").join(_tick(zero + value * scale, bottom, value) for value in ticks(reach))
    axis = Markup(
        '<path d="M{0} {1}V{2}" stroke="currentColor" stroke-width="1.2" opacity="0.7"/>'
        '<path d="M{3} {2}H{4}" stroke="currentColor"/>'
        '<text x="{5}" y="{6}" text-anchor="middle" font-size="12">difference in {7}</text>'
    ).format(_at(zero), _TOP, bottom, _at(left), _WIDTH - _RIGHT, _at((left + _WIDTH - _RIGHT) / 2), bottom + 38,
             legend_label(unit).strip())  # fmt: skip
    drawn = Markup("").join(
        part
        for place, (line, name) in enumerate(zip(lines, names, strict=True))
        for part in _line(line, name, left, _TOP + _ROW * (place + 0.5), zero, scale)
    )
    return head + grid + axis + drawn + Markup("</svg>")


def ticks(reach: float) -> list[float]:
    """Return round numbers from ``-reach`` to ``reach``, some five of them, zero among them."""
    raw = 2 * reach / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((factor * power for factor in (1, 2, 5) if factor * power >= raw), 10 * power)
    most = math.floor(reach / step)
    return [place * step for place in range(-most, most + 1)]


def _tick(x: float, bottom: float, value: float) -> Markup:
    shown = significant(value, 3) if value else "0"
    return Markup(
        '<path d="M{0} {1}V{2}" stroke="var(--grid)" stroke-width="0.8"/>'
        '<text x="{0}" y="{3}" text-anchor="middle" font-size="11">{4}</text>'
    ).format(_at(x), _TOP, bottom, bottom + 17, shown)


def _line(line: ForestLine, name: str, left: float, y: float, zero: float, scale: float) -> Iterator[Markup]:
    yield Markup('<text x="{}" y="{}" text-anchor="end" font-size="12"{}>{}</text>').format(
        _at(left - 8), _at(y + 4), Markup(' font-weight="600"') if line.is_diamond else "", name
    )
    if line.points is None:
        return
    colour = Markup("var(--{})").format(line.colour)
    if line.interval is not None:
        start, end = (zero + bound * scale for bound in line.interval)
        yield Markup('<path d="M{} {}H{}" stroke="{}" stroke-width="{}"/>').format(
            _at(start), _at(y), _at(end), colour, 3 if line.is_diamond else 2
        )
    x = zero + line.points * scale
    if line.is_diamond:
        yield Markup('<path d="M{} {}l6 6l-6 6l-6 -6z" fill="{}"/>').format(_at(x), _at(y - 6), colour)
    else:
        yield Markup('<circle cx="{}" cy="{}" r="4" fill="{}"/>').format(_at(x), _at(y), colour)


def _at(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
