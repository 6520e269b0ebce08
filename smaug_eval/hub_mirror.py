"""An offline mirror in the Hub's place, for programs that name data sets of the Hub and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets

from smaug_eval.data import mirror_file, mirror_folder, read_split
from smaug_eval.leaderboard import v1


@contextmanager
def hub_from_mirror(data_root: Path | None) -> Iterator[None]:
    """While it lasts, ``datasets.load_dataset`` reads the mirror; with None it stays as it is.

    lm-eval's own tasks name the Hub's data sets and nothing else. MMLU's subjects, each a configuration of its own on
    the Hub, are taken from the mirror's ``all``.

    Raises:
        SmaugError: when a data set is asked for that the mirror does not hold.
    """
    if data_root is None:
        yield
        return
    original = datasets.load_dataset

    def load(path: str, name: str | None = None, **_options: Any) -> datasets.DatasetDict:
        return datasets.DatasetDict(_mirrored(data_root, path, name or "default"))

    datasets.load_dataset = load
    try:
        yield
    finally:
        datasets.load_dataset = original


def _mirrored(data_root: Path, hub_id: str, config: str) -> dict[str, datasets.Dataset]:
    if hub_id == v1.MMLU[0].evaluated.hub_id and config in v1.MMLU_TEST_ROWS:
        return _subjects(data_root, hub_id)[config]
    return _splits(data_root, hub_id, config)


@lru_cache(maxsize=1)
def _subjects(data_root: Path, hub_id: str) -> dict[str, dict[str, datasets.Dataset]]:
    found: dict[str, dict[str, datasets.Dataset]] = {subject: {} for subject in v1.MMLU_TEST_ROWS}
    for split, rows in _splits(data_root, hub_id, v1.MMLU[0].evaluated.config).items():
        places: dict[str, list[int]] = {}
        for place, subject in enumerate(rows["subject"]):
            places.setdefault(subject, []).append(place)
        for subject, own in found.items():
            own[split] = rows.select(places.get(subject, []))
    return found


def _splits(data_root: Path, hub_id: str, config: str) -> dict[str, datasets.Dataset]:
    folder = mirror_folder(data_root, hub_id, config)
    names = sorted(path.stem for path in folder.glob("*.parquet"))
    if not names:
        mirror_file(data_root, hub_id, config, "any")  # says what is missing
    return {name: read_split(hub_id, config, name, data_root=data_root) for name in names}
