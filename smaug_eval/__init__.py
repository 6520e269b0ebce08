"""Evaluate preference fine-tunes honestly: did one make the model better, and by how much.

The verbs of the command line are functions here: ``init``, ``schema``, ``run``, ``plan``, ``train``, ``evaluate``,
``build_pairs``, ``pair_stats``, ``diagnose``, ``merge``, ``report``, ``gate``, ``publish``, ``export``,
``check_contamination`` and ``check_pair_overlap`` (the verb ``contamination``), ``dump_requests`` (the verb
``requests``), ``leaderboard_rows``, ``rank`` and ``leaderboard_page`` (the verb ``leaderboard``), ``list_tasks`` (the
verb ``tasks``), ``reproduce`` and ``judge_results`` (the verb ``reproduce``, of a model or of results), ``doctor``, and
``answer_mt_bench``, ``judge_mt_bench``, ``score_mt_bench`` and ``run_mt_bench`` (the verbs ``mt-bench answer``,
``judge``, ``score`` and ``all``); beside them ``prepare`` looks before running, ``scores`` and ``judged_scores`` give
the numbers as data frames, and ``score_views`` (the verb ``scores``) on the leaderboard's and lm-eval 0.4.13's rules.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from smaug_eval._version import __version__ as __version__
from smaug_eval.common.threads import wait_passively

wait_passively()
# PEFT imports bitsandbytes where it is installed, which then warns of a CPU kernel that is not used here.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


__all__ = [
    "answer_mt_bench",
    "build_pairs",
    "check_contamination",
    "check_pair_overlap",
    "diagnose",
    "doctor",
    "dump_requests",
    "evaluate",
    "export",
    "gate",
    "init",
    "judge_mt_bench",
    "judge_results",
    "judged_scores",
    "leaderboard_page",
    "leaderboard_rows",
    "list_tasks",
    "merge",
    "pair_stats",
    "plan",
    "prepare",
    "publish",
    "rank",
    "report",
    "reproduce",
    "run",
    "run_mt_bench",
    "schema",
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
        export,
        gate,
        init,
        judge_mt_bench,
        judge_results,
        judged_scores,
        leaderboard_page,
        leaderboard_rows,
        list_tasks,
        merge,
        pair_stats,
        plan,
        prepare,
        publish,
        rank,
        report,
        reproduce,
        run,
        run_mt_bench,
        schema,
        score_mt_bench,
        score_views,
        scores,
        train,
    )


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing torch and lm-eval takes seconds, which `smaug-eval --help` must not cost.
    if name in __all__:
        from smaug_eval import api
        from smaug_eval.common.arguments import speaking_of_arguments

        return speaking_of_arguments(getattr(api, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
