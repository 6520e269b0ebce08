"""Estimate how many pairs a pair set has, and how long they are: measured where they are here, else known figures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.planning.activations import PairLengths
from smaug_eval.runs.recipe import Recipe
from smaug_eval.trainers.layout import QUESTIONS_FILE, STATS_FILE
from smaug_eval.trainers.pairs.config import MixturePairs, SourcedPairs
from smaug_eval.trainers.pairs.stats import BUCKET_EDGES

CHARACTERS_PER_TOKEN = 4
"""Of English text, roughly; used where no tokenizer has counted."""


@dataclass(frozen=True)
class PairFigures:
    """Hold mean lengths of pairs in tokens.

    Attributes:
        pairs: Training pairs.
        held_out: Pairs kept for evaluation.
        prompt: Of the prompt.
        common: Of the beginning that both completions share.
        chosen: Of the rest of the chosen completion.
        rejected: Of the rest of the rejected one.
        source: Where the figures are from.
        unpaired: Share of them that are single completions with a label; of these ``chosen`` is the mean length of the
            desirable ones, and ``rejected`` that of the others.
        of_a_question: Pairs that ask one question, on average.
    """

    pairs: int
    held_out: int
    prompt: float
    common: float
    chosen: float
    rejected: float
    source: str
    unpaired: float = 0.0
    of_a_question: float = 1.0

    @property
    def length(self) -> float:
        """Return the tokens of the prompt and the longer completion."""
        return self.prompt + self.common + max(self.chosen, self.rejected)

    def completions(self) -> PairFigures:
        """Return the same for a loss of single completions: a pair makes two, each beside that of another prompt.

        Where single completions were counted, as many are taken to be desirable as not.
        """
        lengths = [self.common + rest for rest in (self.chosen, self.rejected) if self.common + rest]
        mean = sum(lengths) / max(1, len(lengths))
        pairs, held_out = (round((2 - self.unpaired) * count) for count in (self.pairs, self.held_out))
        return replace(
            self,
            pairs=pairs,
            held_out=held_out,
            common=0.0,
            chosen=mean,
            rejected=mean,
            unpaired=1.0,
            of_a_question=1.0,
        )

    def lengths(self, scale: float = 1.0) -> PairLengths:
        """Return a pair with every part ``scale`` times the mean, in whole tokens."""
        parts = (max(1, round(scale * part)) for part in (self.prompt, self.common, self.chosen, self.rejected))
        return PairLengths(*parts)

    def within(self, max_length: int, *, together: bool = False) -> PairLengths:
        """Return the mean pair, shortened to ``max_length`` tokens where it is longer.

        Args:
            max_length: Most tokens of a pair.
            together: Whether the pairs of a question are computed together.
        """
        return self._together(self.lengths(min(1.0, max_length / self.length)), together)

    def longest(self, max_length: int, *, together: bool = False) -> PairLengths:
        """Return a pair of the same proportions as long as ``max_length`` allows; arguments as of :meth:`within`."""
        return self._together(self.lengths(max_length / self.length), together)

    def _together(self, pair: PairLengths, together: bool) -> PairLengths:
        return replace(pair, together=max(1, round(self.of_a_question))) if together else pair


@dataclass(frozen=True)
class _Known:
    pairs: int
    prompt: float
    common: float
    chosen: float
    rejected: float
    source: str
    of_a_question: float = 1.0


_CHOICES = "pairs as published; lengths estimated from the leaderboard's prompts, two shots on average"
_CHAT = "pairs and lengths recalled, not verified"
_METAMATH = _Known(
    393_999, 694, 89, 89, 89, "published: pairs, median length, prompt to completion; the edit is taken to be half way"
)
_ARC = _Known(3_357, 108, 1, 5, 5, _CHOICES, 3)
_HELLASWAG = _Known(119_715, 253, 1, 28, 28, _CHOICES, 3)
_KNOWN = {
    "abacusai/MetaMath_DPO_FewShot": _METAMATH,
    "abacusai/ARC_DPO_FewShot": _ARC,
    "allenai/ai2_arc": _ARC,
    "abacusai/HellaSwag_DPO_FewShot": _HELLASWAG,
    "Rowan/hellaswag": _HELLASWAG,
    "openai/gsm8k": _Known(7_473, 390, 55, 55, 55, "rows as published; lengths estimated, two shots on average"),
    "allenai/ultrafeedback_binarized_cleaned": _Known(60_917, 180, 5, 320, 280, _CHAT),
    "HuggingFaceH4/ultrafeedback_binarized": _Known(61_135, 180, 5, 320, 280, _CHAT),
    "Intel/orca_dpo_pairs": _Known(12_859, 280, 2, 130, 250, _CHAT),
    "jondurbin/truthy-dpo-v0.1": _Known(1_016, 60, 2, 120, 120, _CHAT),
}


def pair_figures(recipe: Recipe, name: str, run: Path | None = None) -> PairFigures:
    """Return the figures of a pair set of a recipe.

    Args:
        recipe: The recipe.
        name: Its pair set.
        run: The recipe's run directory; what is built there is taken before anything else.

    Raises:
        SmaugError: the pairs are neither built nor a local file nor a known set.
    """
    config = recipe.pairs[name]
    built = None if run is None else run / "pairs" / name / STATS_FILE
    if built is not None and built.is_file():
        return _measured(read_json(built), str(built), config.holdout, _of_a_question(built.parent))
    if isinstance(config, MixturePairs):
        return _mixed(config, {part: pair_figures(recipe, part, run) for part in config.sets})
    if config.is_file or recipe.data_root:
        return _built(config, None if recipe.data_root is None else Path(recipe.data_root))
    known = _KNOWN.get(config.path)
    if known is None:
        raise SmaugError(
            f"pairs.{name}: nothing is known of the pairs of {config.path}",
            fix="build them first (smaug-eval run builds them before it trains), or give a pair file",
        )
    lengths = (known.prompt, known.common, known.chosen, known.rejected)
    pairs = min(known.pairs, config.limit or known.pairs)
    return PairFigures(pairs, config.holdout, *lengths, known.source, of_a_question=known.of_a_question)


def _built(config: SourcedPairs, data_root: Path | None) -> PairFigures:
    """Measured on pairs that are made for it and not kept."""
    from smaug_eval.trainers.pairs.build import build_pairs

    with tempfile.TemporaryDirectory() as folder:
        stats = build_pairs(config, data_root=data_root, out_dir=Path(folder))
        of_a_question = _of_a_question(Path(folder))
    return _measured(stats.model_dump(mode="json"), config.path, config.holdout, of_a_question)


def _of_a_question(folder: Path) -> float:
    """Training pairs for each question, by the digests that ``pairs build`` wrote; 1 where it wrote none."""
    file = folder / QUESTIONS_FILE
    digests = read_json(file)["train"] if file.is_file() else []
    return len(digests) / len(set(digests)) if digests else 1.0


def _measured(stats: Mapping[str, Any], source: str, holdout: int, of_a_question: float) -> PairFigures:
    """From what ``pairs build`` counted.

    How much the completions share was not counted. Completions that differ little are taken to differ half way;
    others in their first token.
    """
    counted = stats.get("tokens") or stats.get("characters")
    if counted is None or "train" not in stats:
        raise SmaugError(f"{source} lacks the number of pairs or their lengths", fix="build the pairs again")
    unit = 1 if stats.get("tokens") else CHARACTERS_PER_TOKEN
    prompt, chosen, rejected = (counted[part]["mean"] / unit for part in ("prompt", "chosen", "rejected"))
    alike = counted["edit_distance"] is not None and counted["edit_distance"]["mean"] < BUCKET_EDGES[1]
    common = min(chosen, rejected) / 2 if alike else 0.0
    how = "in tokens" if unit == 1 else f"{CHARACTERS_PER_TOKEN} characters a token"
    rows = stats.get("formats") or {}
    lengths = (prompt, common, chosen - common, rejected - common)
    return PairFigures(
        int(stats["train"]),
        holdout,
        *lengths,
        f"measured ({source}, {how})",
        unpaired=rows.get("unpaired", 0) / max(1, sum(rows.values())),
        of_a_question=of_a_question,
    )


def _mixed(config: MixturePairs, parts: Mapping[str, PairFigures]) -> PairFigures:
    """Means by weight; as many pairs as asked for, at most until the first set is exhausted."""
    total = sum(config.sets.values())
    shares = {name: weight / total for name, weight in config.sets.items()}
    most = int(min(parts[name].pairs / share for name, share in shares.items()))

    def mean(key: str) -> float:
        return sum(share * float(getattr(parts[name], key)) for name, share in shares.items())

    sources = "; ".join(f"{name} {shares[name]:.0%}: {part.source}" for name, part in parts.items())
    return PairFigures(
        min(most, config.count or most),
        config.holdout,
        mean("prompt"),
        mean("common"),
        mean("chosen"),
        mean("rejected"),
        sources,
        unpaired=mean("unpaired"),
        of_a_question=mean("of_a_question"),
    )
