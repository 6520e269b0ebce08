"""The page on paper, printed by Chromium and read back by poppler's ``pdftotext``; skipped where one is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from smaug_eval.reports import build_report
from tests.run_writer import RunWriter

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
PDFTOTEXT = shutil.which("pdftotext")


@pytest.mark.slow
@pytest.mark.skipif(not (CHROMIUM and PDFTOTEXT), reason="needs Chromium and pdftotext")
def test_every_page_of_a_long_table_has_its_head_and_nothing_is_cut_off(tmp_path: Path) -> None:
    run = RunWriter(tmp_path / "run")
    tasks = [f"task{number:02d}x" * 2 for number in range(90)]
    for model in ("base", *(f"model-{number}" for number in range(1, 7))):
        run.evaluation(model, dict.fromkeys(tasks, 0.5), metric="acc", n=400)
    page = build_report([run.path], tmp_path / "page.html")
    out = tmp_path / "page.pdf"
    subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
         f"--print-to-pdf={out}", page.as_uri()],
        check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    text = subprocess.run([str(PDFTOTEXT), "-layout", str(out), "-"], check=True, capture_output=True, text=True).stdout
    pages = [each for each in text.split("\f") if each.count("50.0") > 40]
    assert len(pages) > 2
    for each in pages:
        assert re.search(r"base.*model-6", each), each[:400]
    rows = [line for line in text.splitlines() if re.match(r" *task\d\dx", line)]
    assert all(line.count("50.0") == 7 for line in rows if "50.0" in line)
