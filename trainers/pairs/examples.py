"""Build pairs whose prompts begin with solved examples, drawn from the training rows of the same set."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.leaderboard.forms import SHOT_SEPARATOR
from smaug_eval.trainers.pairs.config import ArcPairs, HellaSwagPairs, MetaMathPairs
from smaug_eval.trainers.pairs.pair import Pair, PairSet, draw_questions, reasons_of
from smaug_eval.trainers.pairs.read import raw_rows
from smaug_eval.trainers.pairs.sources import locations


@dataclass(frozen=True)
class Problem(ABC):
    """Define one row that pairs are made from.

    Attributes:
        index: Its place among the rows read.
        question: What identifies it: problems with the same question never stand on both sides of the split, nor one
            as an example in the other's prompt.
        prompt: The question as a model sees it.
    """

    index: int
    question: str
    prompt: str

    @property
    @abstractmethod
    def solved(self) -> str:
        """Return the prompt with its solution, as an example for another prompt."""

    @property
    @abstractmethod
    def pairs(self) -> int:
        """Return how many pairs it makes; one without any still serves as an example."""

    @abstractmethod
    def completions(self, rng: random.Random) -> list[tuple[str, str]]:
        """Return the chosen and the rejected completion of each pair."""


ReadProblems = Callable[[Sequence[tuple[str, Any]], Counter[str]], Sequence[Problem]]
"""Rows with their places to problems; counts what it leaves out."""


def pairs_of(
    config: MetaMathPairs | ArcPairs | HellaSwagPairs, *, data_root: Path | None, read: ReadProblems
) -> PairSet:
    """Build the pairs of a set of problems.

    The random choices of a row's pairs depend on the seed and the row alone, so that ``limit`` and the order of work
    change nothing. All pairs of a row have the same prompt. Solved examples come from training rows only, never from
    held-out ones.

    Raises:
        SmaugError: a row is broken, or there are fewer rows than the prompts need solved examples.
    """
    dropped: Counter[str] = Counter()
    train_rows, eval_rows = locations(config)
    rows = raw_rows(train_rows, data_root=data_root)
    count = len(rows)
    problems = read(rows, dropped)
    candidates, stream = problems, "train"
    if eval_rows:
        other_rows = raw_rows(eval_rows, data_root=data_root)
        count += len(other_rows)
        candidates, stream = read(other_rows, dropped), "eval"
    drawn = set(
        draw_questions(
            (problem.question for problem in candidates for _ in range(problem.pairs)),
            config.holdout,
            random.Random(f"{config.seed}:holdout"),
        )
    )
    pool = _Pool([problem for problem in problems if problem.question not in drawn], config, dropped)
    held_out = list(pool.pairs([problem for problem in candidates if problem.question in drawn], stream))
    surplus = max(0, len(held_out) - config.holdout)
    shared = sum(problem.pairs for problem in problems if problem.question in drawn) if eval_rows else surplus
    if shared:
        dropped["shares_a_held_out_question"] += shared
    return PairSet(
        train=list(islice(pool.pairs(pool.problems, "train"), config.limit)),
        eval=held_out[: config.holdout],
        rows=count,
        dropped=dropped,
    )


class _Pool:
    """The problems that examples are drawn from."""

    def __init__(
        self, problems: Sequence[Problem], config: MetaMathPairs | ArcPairs | HellaSwagPairs, dropped: Counter[str]
    ) -> None:
        if len(problems) <= config.shots[1]:
            raise SmaugError(
                f"{config.path}: {len(problems)} rows remain beside the held-out ones, too few for {config.shots[1]} "
                f"solved examples and a question ({reasons_of(dropped)})",
                fix="give more rows, or lower shots or holdout in the pair set",
            )
        self.problems = problems
        self._config = config
        self._asked = Counter(problem.question for problem in problems)

    def pairs(self, problems: Sequence[Problem], stream: str) -> Iterator[Pair]:
        """The pairs of each problem; ``stream`` keeps the random choices of different files apart."""
        for problem in problems:
            if not problem.pairs:
                continue
            rng = random.Random(f"{self._config.seed}:{stream}:{problem.index}")
            prompt = SHOT_SEPARATOR.join([*self._examples(problem, rng), problem.prompt])
            for chosen, rejected in problem.completions(rng):
                yield Pair(prompt, chosen, rejected, question=problem.question)

    def _examples(self, problem: Problem, rng: random.Random) -> list[str]:
        shots = rng.randint(*self._config.shots)
        # More than needed, in case problems with the same question are drawn.
        drawn = rng.sample(self.problems, min(len(self.problems), shots + max(1, self._asked[problem.question])))
        return [other.solved for other in drawn if other.question != problem.question][:shots]
