"""smaug-eval: did this preference fine-tune make the model better, and by how much?

The verbs of the command line are functions here: ``run``, ``plan``, ``train``, ``evaluate``, ``build_pairs``,
``pair_stats``, ``diagnose``, ``merge``, ``report``, ``check_contamination`` and ``check_pair_overlap`` (the verb
``contamination``), ``dump_requests`` (the verb ``requests``), ``leaderboard_rows`` and ``rank`` (the verb
``leaderboard``), ``reproduce``, ``doctor``, and ``answer_mt_bench``, ``judge_mt_bench``, ``score_mt_bench`` and
``run_mt_bench`` (the verbs ``mt-bench answer``, ``judge``, ``score`` and ``all``); beside them ``prepare`` looks before
running, ``scores`` gives the numbers as a data frame, and ``score_views`` (the verb ``scores``) on the leaderboard's
and on lm-eval 0.4.13's rules.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

# PEFT imports bitsandbytes where it is installed, which then warns of a CPU kernel that is not used here.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"

__all__ = [
    "answer_mt_bench",
    "build_pairs",
    "check_contamination",
    "check_pair_overlap",
    "diagnose",
    "doctor",
    "dump_requests",
    "evaluate",
    "judge_mt_bench",
    "leaderboard_rows",
    "merge",
    "pair_stats",
    "plan",
    "prepare",
    "rank",
    "report",
    "reproduce",
    "run",
    "run_mt_bench",
    "score_mt_bench",
    "score_views",
    "scores",
    "train",
]

if TYPE_CHECKING:
    from smaug_eval.api import (
        answer_mt_bench,
        build_pairs,
        check_contamination,
        check_pair_overlap,
        diagnose,
        doctor,
        dump_requests,
        evaluate,
        judge_mt_bench,
        leaderboard_rows,
        merge,
        pair_stats,
        plan,
        prepare,
        rank,
        report,
        reproduce,
        run,
        run_mt_bench,
        score_mt_bench,
        score_views,
        scores,
        train,
    )


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing torch and lm-eval takes seconds, which `smaug-eval --help` must not cost.
    if name in __all__:
        from smaug_eval import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
