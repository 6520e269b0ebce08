"""Read benchmark and preference data from the Hugging Face Hub or from an offline mirror of it.

A mirror is a directory laid out as ``<hub id>/<config>/<split>.parquet`` in the Hub's own columns
(for example ``openai/gsm8k/main/train.parquet``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.hub_commits import resolve_commit
from smaug_eval.common.hub_data import read_set_split
from smaug_eval.common.names import path_within

if TYPE_CHECKING:
    from datasets import Dataset

DATA_ROOT_VARIABLE = "SMAUG_DATA_ROOT"


def data_root_from_environment() -> Path | None:
    """Return the mirror named by ``SMAUG_DATA_ROOT``, for callers that have no recipe (plain lm-eval)."""
    value = os.environ.get(DATA_ROOT_VARIABLE)
    return Path(value) if value else None


def mirror_folder(data_root: Path, hub_id: str, config: str) -> Path:
    """Return where a mirror keeps one configuration of a data set.

    Raises:
        SmaugError: a name would lead out of the mirror.
    """
    return path_within(data_root, hub_id, config, what="data set and configuration")


def mirror_file(data_root: Path, hub_id: str, config: str, split: str) -> Path:
    """Return where a mirror keeps one split.

    Raises:
        SmaugError: the mirror, the data set or the split is not there; the message names what is.
    """
    path = path_within(mirror_folder(data_root, hub_id, config), split, what="split").with_name(f"{split}.parquet")
    if path.is_file():
        return path
    if not data_root.is_dir():
        raise SmaugError(f"data root {data_root} is not a directory", fix="point data_root (--data-root) at the mirror")
    folder = path.parent
    if folder.is_dir():
        here = ", ".join(sorted(p.stem for p in folder.glob("*.parquet"))) or "no parquet file"
        raise SmaugError(f"{hub_id} ({config}) has no split {split!r} under {data_root}: {here}", fix=f"add {path}")
    raise SmaugError(
        f"data root {data_root} does not hold {hub_id} ({config})",
        fix=f"add {path}, or leave data_root empty to read the Hub",
    )


def read_split(
    hub_id: str, config: str, split: str, *, data_root: Path | None = None, revision: str | None = None
) -> Dataset:
    """Read one split of a data set, from the mirror where ``data_root`` is given, else from the Hub.

    Args:
        hub_id: The data set.
        config: Its configuration.
        split: The split; of the Hub also an expression such as ``train[:100]``.
        data_root: The mirror.
        revision: Branch, tag or commit on the Hub; ``main`` if None. A commit is read once in a process.

    Raises:
        SmaugError: the data are not there, cannot be read, or are not of this commit.
    """
    if data_root is None:
        return read_set_split(hub_id, config, resolve_commit("dataset", hub_id, revision), split)
    import datasets

    path = mirror_file(data_root, hub_id, config, split)
    try:
        return datasets.Dataset.from_parquet(str(path))
    except Exception as error:  # pyarrow and datasets raise many kinds for a damaged file
        raise SmaugError(f"{path} cannot be read: {error}", fix="fetch the file again") from error
