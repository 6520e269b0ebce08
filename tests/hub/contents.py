"""Contents of repositories, as the Hub has them."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import datasets
import yaml

from tests.hub.repositories import Content

Rows = Sequence[Mapping[str, Any]]


def parquet(rows: Rows, features: datasets.Features | None = None) -> bytes:
    """A parquet file as ``push_to_hub`` writes it."""
    file = io.BytesIO()
    datasets.Dataset.from_list(list(rows), features=features).to_parquet(file)
    return file.getvalue()


def json_lines(rows: Rows) -> str:
    """A JSON Lines file."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def card(configs: Mapping[str, Mapping[str, str]], rows: Mapping[str, Mapping[str, int]] | None = None) -> str:
    """The card of a data set.

    Args:
        configs: By configuration, the pattern of each split's files.
        rows: By configuration, the number of rows of each split, where the card states them.
    """
    about: dict[str, Any] = {
        "configs": [
            {"config_name": name, "data_files": [{"split": split, "path": path} for split, path in files.items()]}
            for name, files in configs.items()
        ]
    }
    if rows is not None:
        about["dataset_info"] = [
            {
                "config_name": name,
                "splits": [{"name": split, "num_bytes": 0, "num_examples": n} for split, n in splits.items()],
            }
            for name, splits in rows.items()
        ]
    return f"---\n{yaml.safe_dump(about)}---\n# A data set\n"


def pushed(configs: Mapping[str, Mapping[str, Rows]]) -> dict[str, Content]:
    """The files of a data set as ``push_to_hub`` lays them out: rows by configuration and split."""
    files: dict[str, Content] = {
        f"{name}/{split}-00000-of-00001.parquet": parquet(rows)
        for name, splits in configs.items()
        for split, rows in splits.items()
    }
    patterns = {name: {split: f"{name}/{split}-*" for split in splits} for name, splits in configs.items()}
    numbers = {name: {split: len(rows) for split, rows in splits.items()} for name, splits in configs.items()}
    return {"README.md": card(patterns, numbers), **files}
