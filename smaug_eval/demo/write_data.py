"""Write the demo's task data: ``python -m smaug_eval.demo.write_data [--out DIR]``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from smaug_eval.common.embedded import TASKS_FOLDER
from smaug_eval.common.files import write_text
from smaug_eval.demo.world import Row, task_data

DATA_DIR = TASKS_FOLDER / "demo" / "data"
"""Where the packaged data lie: ``<task>/<split>.jsonl``."""


def jsonl(rows: list[Row]) -> str:
    """Return the rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def rendered_files() -> dict[str, str]:
    """Return the text of every data file by its path relative to the data folder."""
    files: dict[str, str] = {}
    for task, data in task_data().items():
        files |= {f"{task}/{split}.jsonl": jsonl(rows) for split, rows in data.splits.items()}
        if data.preamble is not None:
            files[f"{task}/preamble.txt"] = data.preamble
    return files


def write_data(folder: Path) -> None:
    """Write every data file under ``folder``."""
    for name, text in rendered_files().items():
        write_text(folder / name, text)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m smaug_eval.demo.write_data", description=__doc__)
    parser.add_argument("--out", type=Path, default=DATA_DIR, help="data folder (default: %(default)s)")
    write_data(parser.parse_args().out)


if __name__ == "__main__":
    main()
