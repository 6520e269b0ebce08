"""Assemble the panels into one file: HTML that opens offline and loads nothing, Markdown, or JSON."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from smaug_eval._version import __version__
from smaug_eval.common.collector import collector_paused
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_text
from smaug_eval.common.redaction import without_keys
from smaug_eval.common.text import NOT_AVAILABLE, bound, counted, fixed, signed, significant, visible
from smaug_eval.leaderboard.archive import read_archive
from smaug_eval.reports.formats import numbers, summary
from smaug_eval.reports.html.script import page_script
from smaug_eval.reports.panels import panels_in_order
from smaug_eval.reports.panels.panel import TEMPLATES, Panel
from smaug_eval.results.comparison import Comparison, compare
from smaug_eval.results.differences import p_text
from smaug_eval.results.files import Unread, refuse_failures, warn_of_failures
from smaug_eval.results.merging import with_distinct_labels
from smaug_eval.results.metrics import chosen_metrics
from smaug_eval.results.sample_files import held_states
from smaug_eval.results.sources import Source, read_sources

FORMATS = ("html", "md", "json")


def build_report(
    paths: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    baseline: str | None = None,
    format_: str = "html",
    archive: Path | None = None,
    metrics: Sequence[str] = (),
    strict: bool = False,
) -> Path:
    """Write one file that compares everything found under ``paths``.

    It depends on the files alone: building it twice gives the same bytes.

    Args:
        paths: smaug-eval run directories (finished or not), folders of one training or its ``log.jsonl``, lm-eval
            results files or folders of them, FastChat's judgments or answers, and its folder of a question set.
        out: The report; replaced in one step.
        title: Its title; made from the names of the sources where None.
        baseline: The model that differences are taken from; where None, the one that the only run's recipe names, the
            one called "base", else the first.
        format_: One of :data:`FORMATS`: the page, a summary in Markdown, or the numbers as JSON
            (:func:`smaug_eval.reports.formats.numbers` says which keys).
        archive: The archived leaderboard's table, to rank the models in; ranks are left out where None.

        metrics: Metrics to stand for tasks of no suite (:func:`smaug_eval.results.metrics.chosen_metrics`).
        strict: Raise, after ``out`` is written, where a file that looks like results could not be read.

    Returns:
        ``out``.

    Raises:
        SmaugError: a path is missing or empty, nothing of all can be read, ``archive`` is no such table, there is no
            such baseline, metric or format.
    """
    if format_ not in FORMATS:
        raise SmaugError(f"--format {format_}: there is no such format", fix=f"choose one of {', '.join(FORMATS)}")
    if not paths:
        raise SmaugError("there is nothing to report on", fix="give a run directory, or lm-eval results")
    if archive is not None:
        read_archive(archive)
    with held_states(), collector_paused():
        sources = with_distinct_labels(read_sources(paths))
        choices = chosen_metrics(metrics)
        comparison = compare(
            sources, title=title, baseline=baseline, archive=archive, metrics=choices, shorten=format_ != "json"
        )
        written = {"html": render, "md": summary, "json": numbers}[format_](comparison)
    write_text(out, without_keys(written))
    unread = [*comparison.unread, *_unread(sources)]
    if strict:
        refuse_failures(unread, f"{out} is written")
    warn_of_failures(unread)
    return out


def _unread(sources: Sequence[Source]) -> list[Unread]:
    return [each for source in sources for each in source.unread]


class PageSection(NamedTuple):
    """Hold one panel as it stands on the page.

    Attributes:
        key: Its anchor.
        title: Its heading.
        body: What is shown with the baseline that was given; None where there is nothing then.
        others: The same with each choice of baseline, None for the given one; empty where it is the same for all.
        listed: What stands below, whatever the baseline is.
    """

    key: str
    title: str
    body: Markup | None
    others: list[Markup | None]
    listed: Markup | None


def render(comparison: Comparison) -> str:
    """Return the page as text."""
    environment = template_environment(comparison.full_names)
    comparison.against_all()
    panels = panels_in_order()
    for panel in panels:
        if panel.begin is not None:
            panel.begin(comparison)
    sections = [found for panel in panels if (found := _section(environment, panel, comparison)) is not None]
    page = environment.get_template("page.html.j2")
    return page.render(
        title=comparison.title,
        models=list(dict.fromkeys([*comparison.models, *comparison.judged_models])),
        beginning=_cut(comparison),
        baseline=comparison.baseline,
        choices=comparison.choices,
        model_numbers={model: number for number, model in enumerate(comparison.choices)},
        is_study=comparison.study is not None,
        sources=[source.label for source in comparison.sources],
        sections=sections,
        script=page_script(),
        version=__version__,
    )


def _section(environment: Environment, panel: Panel, comparison: Comparison) -> PageSection | None:
    """Build a panel with the given baseline and with every other; None where there is nothing with any."""
    context = panel.build(comparison)
    body = _filled(environment, panel, panel.file, context)
    others: list[Markup | None] = []
    if not panel.same_for_all:
        built = (panel.build(comparison.against(each)) for each in comparison.choices if each != comparison.baseline)
        found = [_filled(environment, panel, panel.file, own) for own in built]
        if any(each != body for each in found):
            others = found
    if body is None and not any(others):
        return None
    listed = None if panel.list_file is None else _filled(environment, panel, panel.list_file, context)
    return PageSection(panel.key, panel.title, body, others, listed)


def _filled(environment: Environment, panel: Panel, file: Path, context: Mapping[str, object] | None) -> Markup | None:
    if context is None:
        return None
    return Markup(_template(environment, panel, file).render(context))  # noqa: S704 - escaped


def _template(environment: Environment, panel: Panel, file: Path) -> Template:
    """A panel's template; one from elsewhere finds its own files first, and then our macros."""
    if panel.folder != TEMPLATES:
        loader = ChoiceLoader([FileSystemLoader(panel.folder), FileSystemLoader(TEMPLATES)])
        environment = environment.overlay(loader=loader)
    return environment.get_template(file.name)


def _cut(comparison: Comparison) -> str:
    """What is cut from all names of models; empty where nothing is."""
    short, full = next(iter(comparison.full_names.items()), ("", ""))
    return full.removesuffix(short) if short else ""


def template_environment(full_names: Mapping[str, str] | None = None) -> Environment:
    """Return the templates' environment: everything is escaped, hidden characters are shown, unknown names are errors.

    Args:
        full_names: Short name of a model to its whole one.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "bound": bound,
        "number": counted,
        "fixed": fixed,
        "signed": signed,
        "significant": significant,
        "p_value": lambda value: NOT_AVAILABLE if value is None else p_text(value),
    }
    environment.filters["named"] = partial(_named, full_names or {})
    return environment


def _named(full_names: Mapping[str, str], model: str) -> Markup:
    """A model's name, broken between its parts where it must be; the whole name shows where the pointer rests."""
    parts = re.split(r"(?<=[/_,:-])", visible(model))
    shown = Markup("<wbr>").join(parts)
    full = full_names.get(model)
    return shown if full is None else Markup('<span title="{}">{}</span>').format(visible(full), shown)


def _shown(value: object) -> object:
    """Every value on its way into the page: markup passes, all other text has its hidden characters shown."""
    return value if isinstance(value, Markup) else visible(str(value))
