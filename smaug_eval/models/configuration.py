"""Read a checkpoint's ``config.json`` as plain data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json

CONFIG_FILE = "config.json"


def read_config(folder: Path) -> dict[str, Any]:
    """Read the ``config.json`` of a folder.

    Raises:
        SmaugError: it is not there or is no JSON object.
    """
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config, dict):
        raise SmaugError(f"{folder / CONFIG_FILE} is no JSON object", fix="fetch the checkpoint again")
    return config
