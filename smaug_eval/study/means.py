"""The scores of a study's models, a line for each arm and pair set instead of one for each training."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from smaug_eval.files import read_json
from smaug_eval.rundir import MANIFEST
from smaug_eval.study.config import Study, training_name


def study_of(run: Path) -> Study | None:
    """The study that a run directory is of; None if it is of none."""
    found = read_json(run / MANIFEST)["recipe"].get("study")
    return None if found is None else Study.model_validate(found)


def seed_means(frame: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Scores of :func:`smaug_eval.tables.scores` with the seeds of each arm and pair set averaged into one row.

    A mean has no standard error of its own here; the other models keep theirs.
    """
    rows = {
        training_name(arm, pair_set, seed): f"{arm}.{pair_set}"
        for arm, config in study.arms.items()
        for pair_set in config.sets
        for seed in study.seeds_of(arm)
    }
    of_grid = frame["model"].isin(list(rows))
    keys = ["suite", "model", "column", "metric"]
    groups = frame[of_grid].assign(model=frame["model"].map(rows)).groupby(keys, sort=False)["score"]
    means = groups.agg(["mean", "size"]).reset_index().rename(columns={"mean": "score"})
    means["model"] += ", mean of " + means.pop("size").astype(str)
    return pd.concat([frame[~of_grid], means], ignore_index=True)
