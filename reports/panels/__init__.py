"""List the panels of the page in its order: each is one module here and one template.

To add one, write a module with a :class:`~smaug_eval.reports.panels.panel.Panel` and put it into the list
below, or into a plug-in of the group ``smaug_eval.panels``. The page and its contents are made from that table.
"""

from __future__ import annotations

from smaug_eval.common.tables import Table
from smaug_eval.reports.panels import (
    dialogues,
    differences,
    headline,
    judgments,
    matrix,
    pairs,
    provenance,
    running,
    samples,
    scores,
    study,
    study_arms,
    study_pairs,
    study_positions,
    study_question,
    subjects,
    tasks,
    training,
    views,
    warnings,
)
from smaug_eval.reports.panels.panel import Panel

_OWN = (
    study.PANEL,
    *study_question.PANELS,
    study_positions.PANEL,
    study_pairs.PANEL,
    study_arms.PANEL,
    headline.PANEL,
    pairs.PANEL,
    matrix.PANEL,
    scores.PANEL,
    warnings.PANEL,
    differences.PANEL,
    training.PANEL,
    dialogues.PANEL,
    subjects.PANEL,
    views.PANEL,
    tasks.PANEL,
    samples.PANEL,
    judgments.PANEL,
    running.PANEL,
    provenance.PANEL,
)

PANELS = Table("panels", Panel, {panel.key: panel for panel in _OWN})
"""Every panel by its key."""


def panels_in_order() -> list[Panel]:
    """Return the panels in the order of the page."""
    order = [panel for panel in PANELS.values() if not panel.after]
    for panel in PANELS.values():
        if panel.after:
            places = [place for place, other in enumerate(order) if other.key == panel.after]
            order.insert(places[0] + 1 if places else len(order), panel)
    return order
