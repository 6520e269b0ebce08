"""Libraries' chatter goes to the log, the user's lines to the console, and nothing stays redirected."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from rich.console import Console

from smaug_eval.common.console import Reporter, captured_output


def test_prints_logs_warnings_and_children_end_in_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "deep" / "run.log"
    with captured_output(log):
        print("printed")
        print("half a ", end="")
        print("line", file=sys.stdout)
        sys.stderr.write("50%\r100%\r")
        logging.getLogger("lm_eval").warning("logged")
        warnings.warn("warned", stacklevel=1)
        subprocess.run([sys.executable, "-c", "import sys; print('from a child', file=sys.stderr)"], check=True)
        os.write(1, b"from compiled code\n")
    print("after")
    text = log.read_text()
    for expected in ("printed", "half a line", "logged", "warned", "from a child", "from compiled code"):
        assert expected in text
    assert "50%" not in text
    captured = capfd.readouterr()
    assert captured.out == "after\n"
    assert captured.err == ""


def test_logging_is_restored_after_an_error(tmp_path: Path) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    with pytest.raises(ValueError, match="inside"), captured_output(tmp_path / "run.log"):
        raise ValueError("inside")
    assert (logging.getLogger().handlers, logging.getLogger().level) == before


def test_without_a_terminal_plain_lines_say_how_far(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 5.0, 20.0, 21.0])
    monkeypatch.setattr("smaug_eval.common.console.time.monotonic", lambda: next(clock))
    out = io.StringIO()
    with Reporter(Console(file=out, width=100)) as reporter, reporter.stage("train [dpo]"):
        for done in (1, 4, 5):
            reporter.update(done, 16, "loss 0.5")
    # At 20 s a quarter is done, so three times 20 s are left; the others came too soon after the line before.
    assert out.getvalue() == "  train [dpo]: 4/16, about 60 s left, loss 0.5\n"


def test_quiet_shows_warnings_only() -> None:
    out = io.StringIO()
    with Reporter(Console(file=out, width=100), quiet=True) as reporter:
        reporter.say("a line")
        reporter.warn("[bold]as it is")
    assert out.getvalue() == "warning: [bold]as it is\n"


def test_on_a_terminal_a_bar_is_drawn_and_removed() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120)
    with Reporter(console) as reporter, reporter.stage("evaluate [base]"):
        reporter.update(3, 8, "requests")
        time.sleep(0.5)  # the display redraws ten times a second
    assert "evaluate [base]" in out.getvalue()
    assert "3/8" in out.getvalue()
