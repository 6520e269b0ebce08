"""Provide the verbs of the command line as functions: ``import smaug_eval; smaug_eval.run("recipes/demo.yaml")``.

Arguments that several functions take mean the same everywhere, and are described here only:

- ``model``: a folder, a Hub id (also ``organisation/name@revision``) or ``embedded:demo-model``.
- ``model_revision``: branch, tag or commit of the model on the Hub.
- ``dtype``: precision, ``float32``, ``bfloat16``, ``float16``, or ``auto`` for the checkpoint's own.
- ``trust_remote_code``: run Python code that came with the model.
- ``data_root``: an offline mirror of the Hub's data sets; None for the Hub.
- ``tasks``: columns of the suite, such as ``gsm8k``; None for all.
- ``limit``: first documents of each task, in protocol order; None for all.
- ``config``, ``split``, ``revision``: of a data set on the Hub; None for the known set's own, else ``default``,
  ``train`` and the newest.
- ``runs``: where run directories are; ``name``: that of the run, made from the other arguments if None.
- ``reporter``: shows progress; None is silent but for warnings.
- ``command``: the shell command to name in the message on how to resume.
- ``**settings``: further keys of a recipe, as each function says.

Every function raises :class:`SmaugError` for what the user can fix, before anything expensive starts, and
:class:`smaug_eval.common.errors.Interrupted` when it was stopped; the same call then resumes.
"""

from __future__ import annotations

from smaug_eval.api.benchmarks import dump_requests as dump_requests
from smaug_eval.api.benchmarks import judge_results as judge_results
from smaug_eval.api.benchmarks import leaderboard_page as leaderboard_page
from smaug_eval.api.benchmarks import leaderboard_rows as leaderboard_rows
from smaug_eval.api.benchmarks import list_tasks as list_tasks
from smaug_eval.api.benchmarks import rank as rank
from smaug_eval.api.benchmarks import reproduce as reproduce
from smaug_eval.api.pairs import build_pairs as build_pairs
from smaug_eval.api.pairs import check_contamination as check_contamination
from smaug_eval.api.pairs import check_pair_overlap as check_pair_overlap
from smaug_eval.api.pairs import diagnose as diagnose
from smaug_eval.api.pairs import merge as merge
from smaug_eval.api.pairs import pair_stats as pair_stats
from smaug_eval.api.results import export as export
from smaug_eval.api.results import gate as gate
from smaug_eval.api.results import judged_scores as judged_scores
from smaug_eval.api.results import publish as publish
from smaug_eval.api.results import report as report
from smaug_eval.api.results import score_views as score_views
from smaug_eval.api.results import scores as scores
from smaug_eval.api.running import doctor as doctor
from smaug_eval.api.running import evaluate as evaluate
from smaug_eval.api.running import init as init
from smaug_eval.api.running import plan as plan
from smaug_eval.api.running import prepare as prepare
from smaug_eval.api.running import run as run
from smaug_eval.api.running import run_mt_bench as run_mt_bench
from smaug_eval.api.running import schema as schema
from smaug_eval.api.running import train as train
from smaug_eval.runs.mt_bench import answer_mt_bench as answer_mt_bench
from smaug_eval.runs.mt_bench import judge_mt_bench as judge_mt_bench
from smaug_eval.runs.mt_bench import score_mt_bench as score_mt_bench
