"""Add the stage that writes the report of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smaug_eval.results.kept_values import baseline_on_page
from smaug_eval.results.layout import REPORT, REPORT_FILE
from smaug_eval.runs.decisions import kept_results
from smaug_eval.runs.models import RunModels
from smaug_eval.runs.stages.listing import StageList


def add_report(
    stages: StageList, models: RunModels, warn: Callable[[str], None], write_manifest: Callable[[], None]
) -> None:
    """Add the report, behind all other stages.

    Args:
        stages: All others; receives it.
        models: Of the run.
        warn: Receives what could not be logged.
        write_manifest: Writes the manifest, which the report shows.
    """
    from smaug_eval.reports import build_report  # with pandas and Jinja
    from smaug_eval.sharing.wandb_results import log_results

    recipe = models.recipe
    kept = kept_results(recipe)

    def work(folder: Path) -> Mapping[str, Any]:
        write_manifest()
        out = models.directory.path / REPORT_FILE
        title = recipe.report.title or recipe.name
        run, baseline = models.directory.path, recipe.report.baseline
        if kept:
            baseline = baseline_on_page(run, kept[0])
        build_report([run, *kept], out, title=title, baseline=baseline)
        projects = {
            name: each.wandb_project for name, each in recipe.trainings.items() if each.wandb_project is not None
        }
        log_results(run, projects, warn=warn)
        return {"report": REPORT_FILE, "bytes": out.stat().st_size}

    shown = tuple(stage.name for stage in stages.all)
    # Their names, too: a stage's key is the same under another one.
    inputs = {"report": recipe.report.model_dump(), "name": recipe.name, "stages": list(shown)}
    stages.add(REPORT, "report", inputs, shown, work, (REPORT_FILE,), drafted=True)
