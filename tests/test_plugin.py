"""A plug-in with one entry of each kind (``tests/plugin/colours``), as docs/extend.md describes it, and broken ones."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.tables import Table

PLUGIN = Path(__file__).parent / "plugin" / "colours"
RECIPE = """
name: colours
model: {path: "embedded:demo-model", dtype: float32}
pairs:
  things: {source: colours, path: things.jsonl, holdout: 2}
trainings:
  squared: {loss: squared_lead, lead: 3, steps: 2, batch_size: 2, eval_every: 2, learning_rate: 1.0e-4}
evaluations:
  things: {suite: colours, engine: shortest}
"""


def installed(folder: Path, entry_points: str) -> dict[str, str]:
    """Install the plug-in into a folder as pip would, and return the environment of a process that has it."""
    shutil.copytree(PLUGIN, folder / "colours")
    about = folder / "smaug_colours-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: smaug-colours\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(entry_points)
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(folder)]))
    return {**os.environ, "PYTHONPATH": path}


def smaug(*arguments: str, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "smaug_eval", *arguments]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_plug_in_adds_one_entry_of_each_kind(tmp_path: Path) -> None:
    env = installed(tmp_path / "site", (PLUGIN / "entry_points.txt").read_text())
    rows = [{"thing": f"thing {n}", "colour": "red", "other": "blue"} for n in range(6)]
    (tmp_path / "things.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    done = smaug("run", "recipe.yaml", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stdout + done.stderr

    run = tmp_path / "runs/colours"
    pairs = [json.loads(line) for line in (run / "pairs/things/train.jsonl").read_text().splitlines()]
    assert len(pairs) == 4
    assert {(pair["chosen"], pair["rejected"]) for pair in pairs} == {(" red", " blue")}
    assert all(re.fullmatch(r"The thing \d is", pair["prompt"]) for pair in pairs)

    log = [json.loads(line) for line in (run / "train/squared/log.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in log if "loss" in row]
    assert math.isclose(losses[0], 9.0, abs_tol=1e-3)  # (0 - lead)^2 while the policy is its reference
    assert json.loads((run / "train/squared/summary.json").read_text())["lead"] == 3.0

    scores = smaug("scores", str(run), cwd=tmp_path, env=env).stdout
    assert scores.count("Colours (acc)  75.00 ± 25.00") == 2
    files = list(run.glob("eval/*/things/**/results_*.json"))
    assert len(files) == 2
    for file in files:
        # Of red/green, green/red, black/white and pink, yellowish/white the shortest is right but for the second.
        assert json.loads(file.read_text())["results"]["colours_things"]["acc,none"] == 0.75

    page = (run / "report.html").read_text()
    panel = page.partition('<section id="colours"')[2].partition("</section>")[0]
    assert "Colours &amp; things" in panel
    assert "<li>BASE</li>" in panel
    assert "SQUARED" in panel
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["plugins"]["smaug_eval.losses:squared_lead"] == "smaug-colours 1.2"
    assert manifest["plugins"]["smaug_eval.engines:shortest"] == "smaug-colours 1.2"


@pytest.mark.parametrize(
    ("entry_points", "expected"),
    [
        (
            "[smaug_eval.losses]\nx = colours.nothing:LOSS\n",
            "the plug-in smaug-colours 1.2 cannot be loaded: colours.no",
        ),
        ("[smaug_eval.losses]\nx = colours.panel:PANEL\n", "colours.panel:PANEL, is a Panel, not a Loss"),
        (
            "[smaug_eval.losses]\ndpo = colours.loss:LOSS\n",
            "is called 'dpo', and smaug_eval.losses has one of that name",
        ),
    ],
    ids=["not there", "of another kind", "a name that is taken"],
)
def test_a_broken_plug_in_is_named(tmp_path: Path, entry_points: str, expected: str) -> None:
    env = installed(tmp_path / "site", entry_points)
    done = smaug("train", "--help", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert expected in " ".join(done.stderr.split())


def test_a_table_takes_entries_of_its_kind() -> None:
    table = Table("numbers", int, {"one": 1})
    table["two"] = 2
    assert dict(table) == {"one": 1, "two": 2}
    with pytest.raises(SmaugError, match="has one of that name"):
        table["one"] = 3
    with pytest.raises(SmaugError, match="is a str, not a int"):
        table["three"] = "3"  # type: ignore[assignment]
    del table["two"]
    assert list(table) == ["one"]


def test_the_plug_in_is_described() -> None:
    """Every group that tables have is in docs/extend.md, and in the plug-in."""
    text = (Path(__file__).parents[1] / "docs" / "extend.md").read_text()
    groups = re.findall(r"^\[(smaug_eval\.\w+)\]$", (PLUGIN / "entry_points.txt").read_text(), re.MULTILINE)
    assert len(groups) == 7
    assert all(f"`{group}`" in text for group in groups)
