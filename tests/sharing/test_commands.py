"""The commands publish and export: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from smaug_eval.cli import app
from tests.hub.fixtures import HubHere
from tests.sharing.shared_run import write_run


def test_publish_lists_sends_and_says_so_as_json(
    hub_here: HubHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub_here.token(hub_here.hub.add_user("ann"))
    run = write_run(tmp_path / "animals")
    command = ["publish", str(run), "--model", "dpop", "--repo", "ann/animals", "--quiet"]
    listed = CliRunner().invoke(app, [*command, "--private", "--dry-run"], env={"COLUMNS": "200"})
    assert listed.exit_code == 0, listed.output
    assert "new private repository; 5 files" in listed.output
    assert "Nothing was sent." in listed.output
    card = CliRunner().invoke(app, [*command, "--show-card"])
    assert card.output.startswith("---\n")
    assert "model-index:" in card.output
    assert not hub_here.hub.requests("^(POST|PUT)")
    sent = CliRunner().invoke(app, [*command, "--json"])
    found = json.loads(sent.stdout)
    assert found["commit"] == hub_here.hub.find("model", "ann/animals").branches["main"]
    assert len(found["files"]) == 5
    again = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
    assert "nothing to send, the repository has every file" in again.output


def test_export_prints_its_files(tmp_path: Path) -> None:
    run = write_run(tmp_path / "animals")
    out = tmp_path / "scores.csv"
    done = CliRunner().invoke(app, ["export", str(run), "--to", "csv", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(out)
    assert out.read_text().startswith("suite,model,column,metric,score")
