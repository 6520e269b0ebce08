"""Send evaluations and the report to the Weights & Biases runs of the trainings that they are of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import write_text
from smaug_eval.results.layout import REPORT_FILE, training_stage
from smaug_eval.sharing.measured import judged_sentences, measured, read_run_to_share
from smaug_eval.sharing.places import places_of
from smaug_eval.trainers.training_log import wandb_run

log = logging.getLogger(__name__)


def log_results(run: Path, projects: Mapping[str, str], *, warn: Callable[[str], None]) -> list[str]:
    """Send each training's scores, as ``eval/<suite>/<column>`` of the summary, and the report to its own W&B run.

    What goes wrong is a warning: the run is finished all the same.

    Args:
        run: The run directory, with its report.
        projects: The W&B project of each training that has one.
        warn: Receives what could not be sent.

    Returns:
        The trainings whose results were sent.
    """
    if not projects:
        return []
    source, comparison = read_run_to_share(run)
    places = places_of([source])
    report = places.hide((run / REPORT_FILE).read_text(encoding="utf-8"))
    sent = []
    for model, project in projects.items():
        summary: dict[str, Any] = {}
        if model in comparison.models:
            for each in measured(comparison, model):
                key = f"eval/{each.suite}/{each.title}"
                summary |= {key: each.score.value, f"{key}/stderr": each.score.stderr, f"{key}/sentence": each.sentence}
        summary |= {f"judged/sentence/{n}": text for n, text in enumerate(judged_sentences(comparison, model))}
        try:
            _send(project, run / training_stage(model), summary, report)
        except Exception as error:  # of whatever kind: W&B's own, of its service, of the network
            log.exception("W&B")
            said = error.message if isinstance(error, SmaugError) else f"{type(error).__name__}: {error}"
            warn(f"{model}: its results were not sent to W&B project {project!r}: {said}")
        else:
            sent.append(model)
    return sent


def _send(project: str, folder: Path, summary: Mapping[str, Any], report: str) -> None:
    opened = wandb_run(project, folder)
    try:
        opened.summary.update({key: value for key, value in summary.items() if value not in (None, "")})
        write_text(Path(opened.dir) / REPORT_FILE, report)  # files of a run's folder are sent when it ends
    finally:
        opened.finish()
