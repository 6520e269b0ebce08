"""Draw pairs from other, already built pair sets, in proportion to weights."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from smaug_eval.common.errors import SmaugError
from smaug_eval.trainers.pairs.config import MixturePairs
from smaug_eval.trainers.pairs.pair import Pair, PairSet


@dataclass(frozen=True)
class BuiltSet:
    """Hold the pairs of a built set."""

    train: Sequence[Pair]
    eval: Sequence[Pair]


def mixture_pairs(config: MixturePairs, sets: Mapping[str, BuiltSet]) -> PairSet:
    """Draw from several sets without replacement, so that every beginning of the result has the mixture's proportions.

    Held-out pairs are drawn first, from the sets that have any, until ``holdout`` is reached or one set has no more.
    Training pairs that share a question with them are left out, as are pairs that an earlier set (by name) has too.

    Args:
        config: The weights and counts.
        sets: The built sets of ``config.sets``.

    Raises:
        SmaugError: a set is too small for ``count``.
    """
    names = sorted(config.sets)
    dropped: Counter[str] = Counter()
    held_out_of = _shuffled(_unique({name: sets[name].eval for name in names}, dropped), config.seed, "eval")
    drawn, _ = _interleaved({name: held_out_of[name] for name in names if held_out_of[name]}, config, config.holdout)
    questions = {pair.question for pair in drawn}
    train_of = _unique({name: sets[name].train for name in names}, dropped)
    for name, pairs in train_of.items():
        train_of[name] = [pair for pair in pairs if pair.question not in questions]
        dropped["shares_a_held_out_question"] += len(pairs) - len(train_of[name])
    train, parts = _interleaved(_shuffled(train_of, config.seed, "train"), config, config.count)
    if config.count is not None and len(train) < config.count:
        raise _too_small(config, train_of, len(train))
    return PairSet(
        train=train,
        eval=drawn,
        rows=sum(len(sets[name].train) + len(sets[name].eval) for name in names),
        dropped=+dropped,
        parts=parts,
    )


def _unique(pools: Mapping[str, Iterable[Pair]], dropped: Counter[str]) -> dict[str, list[Pair]]:
    """Each pool without the pairs of those before it."""
    seen: set[tuple[object, ...]] = set()
    unique: dict[str, list[Pair]] = {}
    for name, pairs in pools.items():
        unique[name] = []
        for pair in pairs:
            content = (pair.prompt, pair.chosen, pair.rejected, pair.template_data, pair.label)
            if content in seen:
                dropped["duplicate"] += 1
            else:
                seen.add(content)
                unique[name].append(pair)
    return unique


def _shuffled(pools: Mapping[str, Sequence[Pair]], seed: int, stream: str) -> dict[str, list[Pair]]:
    return {
        name: random.Random(f"{seed}:{stream}:{name}").sample(list(pairs), len(pairs)) for name, pairs in pools.items()
    }


def _interleaved(
    pools: Mapping[str, Sequence[Pair]], config: MixturePairs, count: int | None
) -> tuple[list[Pair], dict[str, int]]:
    """Pairs of the pools, each time from the pool that is furthest behind its share, until one is exhausted."""
    total = sum(config.sets[name] for name in pools)
    taken = dict.fromkeys(pools, 0)
    mixed: list[Pair] = []
    while pools and (count is None or len(mixed) < count):
        size = len(mixed) + 1
        name = max(pools, key=lambda name: size * config.sets[name] / total - taken[name])
        if taken[name] == len(pools[name]):
            break
        mixed.append(pools[name][taken[name]])
        taken[name] += 1
    return mixed, taken


def _too_small(config: MixturePairs, pools: Mapping[str, Sequence[Pair]], reached: int) -> SmaugError:
    total = sum(config.sets.values())
    share = {name: len(pools[name]) * total / config.sets[name] for name in pools}
    name = min(share, key=lambda name: share[name])
    return SmaugError(
        f"the mixture asks for {config.count} pairs, but {name} has only {len(pools[name])} of its share of "
        f"{config.sets[name] / total:.1%}",
        fix=f"lower count to {reached} or less, lower the weight of {name}, or leave count out",
    )
