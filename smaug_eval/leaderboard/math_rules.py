"""Describe three rules for generated solutions of MATH: the second leaderboard's last one, and the two before it.

``exact_match`` is math-verify's verdict, with which all rows were scored again in February 2025.
``exact_match_original`` is the rule of October 2024: the text after "Final Answer: The final answer is" equals the
right answer, or sympy finds their difference to be 0. ``exact_match_launch`` is that of June 2024: sympy alone, which
cannot parse many answers that are equal. Source: ``tasks/leaderboard/math/utils.py`` of lm-eval 0.4.13, whose functions
apply the rules, and of the leaderboard's fork.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from functools import cache
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.v2_packages import imported

RULES = ("exact_match", "exact_match_original", "exact_match_launch")
NO_ANSWER = "[invalidanswer]"


def boxed_answer(solution: str) -> str:
    r"""Return what the last ``\boxed`` (or ``\fbox``) of a worked solution holds; ``NO_ANSWER`` where that is nothing.

    As in lm-eval, only a ``\boxed`` with braces or a space behind it counts.
    """
    if "\\boxed " in solution:
        return solution.split("\\boxed ")[-1].split("$")[0]
    start = max(solution.rfind("\\boxed"), -1)
    if start < 0 or not solution.startswith("\\boxed{", start):
        return NO_ANSWER
    depth = 0
    for end in range(start, len(solution)):
        depth += {"{": 1, "}": -1}.get(solution[end], 0)
        if solution[end] == "}" and depth == 0:
            return solution[start + len("\\boxed{") : end]
    return NO_ANSWER


def score(solution: str, answer: str, text: str) -> dict[str, float]:
    """Score a generated solution by every rule.

    Args:
        solution: The worked solution.
        answer: Its final answer, see :func:`boxed_answer`.
        text: What the model wrote.

    Returns:
        0 or 1 for each of ``RULES``.

    Raises:
        SmaugError: math-verify or a package that it needs is missing.
    """
    if threading.current_thread() is not threading.main_thread():
        return _in_another_process([solution, answer, text])
    utils = _rules()
    found = utils.parse(text)
    right = utils.parse(solution, extraction_config=[utils.LatexExtractionConfig()])
    given = utils.normalize_final_answer(utils.get_unnormalized_answer(text))
    gold = utils.normalize_final_answer(answer)
    by_sympy = given != NO_ANSWER and bool(utils.is_equiv(given, gold))
    by_text = given != NO_ANSWER and given.strip() == gold.strip()
    verdicts = (bool(utils.verify(right, found)), by_text or by_sympy, by_sympy)
    return dict(zip(RULES, map(float, verdicts), strict=True))


@cache
def _rules() -> Any:
    """lm-eval's functions, after a first use.

    What a first use loads would count against the second that a comparison has, and an equal answer be found wrong.
    """
    utils: Any = imported("lm_eval.tasks.leaderboard.math.utils")
    utils.sympy.simplify(utils.parse_latex("\\frac{1}{2}") - utils.parse_latex("0.5"))
    return utils


@cache
def _helper() -> tuple[subprocess.Popen[str], threading.Lock]:
    """A process whose main thread applies the rules, and the lock for its one conversation."""
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", __name__]
    process = subprocess.Popen(  # noqa: S603 - this program itself
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=path
    )
    atexit.register(process.kill)
    return process, threading.Lock()


def _in_another_process(asked: list[str]) -> dict[str, float]:
    """Score where the main thread is free.

    The rules limit their time with a signal, which only a main thread receives; workers on Ray work in another one.
    """
    _rules()  # says what is missing
    process, lock = _helper()
    if process.stdin is None or process.stdout is None:
        raise SmaugError("the process that scores MATH cannot be reached", fix="run again")
    with lock:
        try:
            process.stdin.write(json.dumps(asked) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except OSError:
            line = ""
    if not line:
        raise SmaugError("the process that scores MATH has ended", fix="is memory short? run again: answers are kept")
    found: dict[str, float] = json.loads(line)
    return found


def serve() -> None:
    """Answer lines of standard input, each a list of ``score``'s arguments, with lines of its values, as JSON."""
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    for line in sys.stdin:
        answers.write(json.dumps(score(*json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve()
