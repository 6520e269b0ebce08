"""Ask a model the demo's word problems, of the development split or of the test split."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from smaug_eval.engines.pool import EnginePool
from smaug_eval.engines.registry import EngineSpec
from smaug_eval.leaderboard.benchmarks import gsm8k
from smaug_eval.leaderboard.demo import demo_suite
from smaug_eval.leaderboard.protocol import requests

if TYPE_CHECKING:
    from smaug_eval.stats.means import Values

TASK = "demo_arithmetic"
Split = Literal["development", "test"]


def solved(checkpoint: Path, split: Split, *, limit: int | None = None, batch_size: int = 64) -> Values:
    """Ask the problems of a split with their five shots, and return which answers are right.

    The prompts, stops and rule are those of the demo suite's Arithmetic column, whose ``acc`` is the mean.

    Args:
        checkpoint: Folder of the model.
        split: Which problems.
        limit: First problems; all if None.
        batch_size: Answers written at once.

    Returns:
        1.0 or 0.0 for each problem, in protocol order.
    """
    from lm_eval.api.instance import Instance

    suite = demo_suite(arithmetic_split=split)
    leaf = suite.task(TASK)
    if leaf.generation is None:
        raise ValueError(f"{TASK} is not generated")
    settings = {
        "until": list(leaf.generation.stops),
        "max_gen_toks": leaf.generation.max_new_tokens,
        "do_sample": False,
    }
    documents = suite.documents(TASK)[:limit]
    asked = []
    for number, document in enumerate(documents):
        ((context, _),) = requests(leaf, document)
        asked.append(Instance("generate_until", document, (context, dict(settings)), 0, (TASK, number, 1)))
    pool = EnginePool()
    try:
        lm: Any = pool.get(EngineSpec("torch", checkpoint, dtype="float32", batch_size=batch_size)).watch.lm
        answers = lm.generate_until(asked, disable_tqdm=True)
    finally:
        pool.close()
    found = [gsm8k.metrics(document, [answer])["acc"] for document, answer in zip(documents, answers, strict=True)]
    return np.array(found)
