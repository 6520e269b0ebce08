"""The wheel holds everything the commands need, and works away from the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
WHEEL_MODEL_LIMIT = 10 * 2**20


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (built,) = folder.glob("smaug_eval-*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_model_tasks_templates_and_recipes(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
    for needed in (
        "smaug_eval/demo/model/model.safetensors",
        "smaug_eval/demo/model/tokenizer.json",
        "smaug_eval/recipes/demo.yaml",
        "tasks/open_llm_v1/open_llm_v1.yaml",
        "tasks/demo/data/demo_arithmetic/train.jsonl",
        "reports/templates/page.html.j2",
        "trainers/losses.py",
    ):
        assert needed in sizes
    assert sum(size for name, size in sizes.items() if name.startswith("smaug_eval/demo/model/")) <= WHEEL_MODEL_LIMIT
    assert not [name for name in sizes if name.startswith(("tests/", "runs/", ".venv"))]


@pytest.mark.slow
def test_the_installed_wheel_plans_the_demo(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    # -S would lose the dependencies; PYTHONSAFEPATH and the order of PYTHONPATH put the wheel before the checkout.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    script = "import smaug_eval; print(smaug_eval.__file__); from smaug_eval.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", script, "demo", "--dry-run"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert str(tmp_path / "site") in result.stdout
    assert "train/dpop" in result.stdout
    assert not (tmp_path / "runs").exists()
