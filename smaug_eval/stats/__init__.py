"""Compute the statistics of the comparison: how far a score, or a difference of two, can be trusted.

Values belong to items: a benchmark's documents, or a judge's questions. Every function is pure, works in the unit of
its values, and where it draws at random, the same values and seed give the same result.
"""

from smaug_eval.stats.agreement import cohen_kappa, quadratic_kappa
from smaug_eval.stats.bootstrap import nested_weights, percentile_interval, stratified_means
from smaug_eval.stats.bradley_terry import Strength, bradley_terry
from smaug_eval.stats.crossed import ContrastPart, CrossedContrast, crossed_contrast, table_of
from smaug_eval.stats.draws import Draws
from smaug_eval.stats.floors import (
    Floored,
    difference_above_floors,
    shortfall,
    shortfall_interval,
    with_shortfalls,
)
from smaug_eval.stats.means import (
    RESAMPLES,
    SEED,
    Interval,
    Labels,
    Values,
    cluster_sums,
    normal_interval,
    standard_error,
    t_interval,
    t_mean_interval,
    wilson_interval,
)
from smaug_eval.stats.paired import (
    AverageDifference,
    PairedDifference,
    average_difference,
    paired_difference,
    right_wrong_interval,
)
from smaug_eval.stats.planning import ALPHA, POWER, detectable_difference, difference_deviation, items_needed, power
from smaug_eval.stats.resampling import (
    Parts,
    ScoreDifference,
    ScoreInterval,
    ScoreOf,
    score_difference,
    score_interval,
)
from smaug_eval.stats.sequential import (
    Drawn,
    average_interval,
    capital_paths,
    decided,
    log_capital,
    look_sizes,
    mean_interval,
    narrowed,
)
from smaug_eval.stats.significance import EXACT_ITEMS, PERMUTATIONS, holm, mcnemar_p_value, sign_flip_p_value
from smaug_eval.stats.verdicts import Outcome, Verdict, held_back, verdict

__all__ = [
    "ALPHA",
    "EXACT_ITEMS",
    "PERMUTATIONS",
    "POWER",
    "RESAMPLES",
    "SEED",
    "AverageDifference",
    "ContrastPart",
    "CrossedContrast",
    "Drawn",
    "Draws",
    "Floored",
    "Interval",
    "Labels",
    "Outcome",
    "PairedDifference",
    "Parts",
    "ScoreDifference",
    "ScoreInterval",
    "ScoreOf",
    "Strength",
    "Values",
    "Verdict",
    "average_difference",
    "average_interval",
    "bradley_terry",
    "capital_paths",
    "cluster_sums",
    "cohen_kappa",
    "crossed_contrast",
    "decided",
    "detectable_difference",
    "difference_above_floors",
    "difference_deviation",
    "held_back",
    "holm",
    "items_needed",
    "log_capital",
    "look_sizes",
    "mcnemar_p_value",
    "mean_interval",
    "narrowed",
    "nested_weights",
    "normal_interval",
    "paired_difference",
    "percentile_interval",
    "power",
    "quadratic_kappa",
    "right_wrong_interval",
    "score_difference",
    "score_interval",
    "shortfall",
    "shortfall_interval",
    "sign_flip_p_value",
    "standard_error",
    "stratified_means",
    "t_interval",
    "t_mean_interval",
    "table_of",
    "verdict",
    "wilson_interval",
    "with_shortfalls",
]
