"""Putting the panels together into one file: HTML that opens offline and loads nothing, Markdown, or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports.comparison import Comparison, compare
from reports.formats import numbers, summary
from reports.merging import with_distinct_labels
from reports.panels import PANELS
from reports.script import page_script
from reports.sources import read_source
from reports.text import bound, fixed, signed, significant, visible
from smaug_eval import __version__
from smaug_eval.errors import SmaugError
from smaug_eval.files import write_text
from smaug_eval.leaderboard.archive import read_archive
from smaug_eval.redaction import without_keys

FORMATS = ("html", "md", "json")


def build_report(
    paths: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    baseline: str | None = None,
    format_: str = "html",
    archive: Path | None = None,
) -> Path:
    """Write one file that compares everything found under ``paths``.

    It depends on the files alone: building it twice gives the same bytes.

    Args:
        paths: smaug-eval run directories (finished or not), folders of one training or its ``log.jsonl``, lm-eval
            results files or folders of them, FastChat's judgments or answers, and its folder of a question set.
        out: The report; replaced in one step.
        title: Its title; made from the names of the sources where None.
        baseline: The model that differences are taken from; where None, the one called "base", else the first.
        format_: One of :data:`FORMATS`: the page, a summary in Markdown, or the numbers as JSON
            (:func:`reports.formats.numbers` says which keys).
        archive: The archived leaderboard's table, to rank the models in; ranks are left out where None.

    Returns:
        ``out``.

    Raises:
        SmaugError: a path is missing, empty or holds a file that cannot be read, ``archive`` is no such table, there
            is no such baseline, or no such format.
    """
    if format_ not in FORMATS:
        raise SmaugError(f"--format {format_}: there is no such format", fix=f"choose one of {', '.join(FORMATS)}")
    if not paths:
        raise SmaugError("there is nothing to report on", fix="give a run directory, or lm-eval results")
    if archive is not None:
        read_archive(archive)
    sources = with_distinct_labels([read_source(path) for path in paths])
    comparison = compare(sources, title=title, baseline=baseline, archive=archive)
    written = {"html": render, "md": summary, "json": numbers}[format_](comparison)
    write_text(out, without_keys(written))
    return out


def render(comparison: Comparison) -> str:
    """The page as text."""
    environment = template_environment()
    built = [(panel, context) for panel in PANELS if (context := panel.build(comparison)) is not None]
    sections = [
        {
            "key": panel.key,
            "title": panel.title,
            "body": Markup(environment.get_template(f"{panel.template or panel.key}.html.j2").render(context)),  # noqa: S704 - escaped
        }
        for panel, context in built
    ]
    page = environment.get_template("page.html.j2")
    return page.render(
        title=comparison.title,
        models=list(dict.fromkeys([*comparison.models, *comparison.judged_models])),
        baseline=comparison.baseline,
        is_study=comparison.study is not None,
        sources=[source.label for source in comparison.sources],
        sections=sections,
        script=page_script(),
        version=__version__,
    )


def template_environment() -> Environment:
    """The templates' environment: everything is escaped, hidden characters are shown, unknown names are errors."""
    environment = Environment(
        loader=PackageLoader("reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"bound": bound, "fixed": fixed, "signed": signed, "significant": significant}
    return environment


def _shown(value: object) -> object:
    """Every value on its way into the page: markup passes, all other text has its hidden characters shown."""
    return value if isinstance(value, Markup) else visible(str(value))
