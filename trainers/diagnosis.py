"""Diagnose how a model scores preference pairs, and what a training changed, without a training."""

from __future__ import annotations

import datetime
import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from smaug_eval.common.console import Reporter
from smaug_eval.common.errors import SmaugError
from smaug_eval.models.checkpoint import Checkpoint, check_uses, locate
from smaug_eval.models.quantised import Use
from smaug_eval.models.quiet import quiet_transformers
from smaug_eval.prefix.scorer import NoHiddenStates, scoring
from smaug_eval.trainers.base_model import DTYPES, check_ids, fitting_length, load_model
from smaug_eval.trainers.diagnostics import (
    SIDES,
    by_bucket,
    by_region,
    differences,
    edit_distances,
    falling_warning,
    log_ratios,
    mean_and_error,
    profile,
    rank_correlation,
)
from smaug_eval.trainers.layout import EVAL_FILE, TRAIN_FILE
from smaug_eval.trainers.pairs.files import FILE_SUFFIXES, FORMATS, is_local, is_saved
from smaug_eval.trainers.pairs.pair import PairSet
from smaug_eval.trainers.pairs.rows import pairs_to_measure
from smaug_eval.trainers.probes import Ches, ches, gradient_cosines, sampled_indices
from smaug_eval.trainers.reference import TokenLogProbs, score_pairs
from smaug_eval.trainers.remarks import remarks
from smaug_eval.trainers.tokenization import EncodedPair, EncodedPairs, PairEncoder

ROW_TOKENS = 8192
HIGHEST = 5
SNIPPET = 60


@dataclass(frozen=True)
class DiagnosisSettings:
    """Configure a diagnosis.

    Attributes:
        limit: Pairs to look at, from the beginning; all if None.
        dtype: ``float32``, ``bfloat16`` or ``auto``, the checkpoint's own.
        max_length: Tokens of prompt and completion together; a model's shorter context takes precedence.
        gradient_pairs: Pairs of which the gradients of chosen and rejected are compared; 0 for none.
        seed: Which pairs those are.
        date: The day that chat templates take for today; None for today.
    """

    limit: int | None = None
    dtype: str = "auto"
    max_length: int = 1024
    gradient_pairs: int = 8
    seed: int = 42
    date: datetime.date | None = None


@dataclass(frozen=True)
class _Look:
    """One model's scores of the pairs."""

    encoded: EncodedPairs
    tokens: TokenLogProbs
    ches: list[Ches] | None
    cosines: dict[int, float | None]
    forward: str
    snippets: list[str]


def read_preferences(
    path: str,
    *,
    data_root: Path | None,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[str, PairSet]:
    """Read ready-made pairs and their name; equal, empty and repeated ones are left out and counted.

    Args:
        path: A file of rows; a folder that ``pairs build`` wrote, of which the
            held-out pairs are read, or the training pairs where none are held out; or a Hub id.
        data_root: Mirror of the Hub.
        config: Configuration of the Hub set.
        split: Split of the Hub set.
        revision: Revision of the Hub set.
        columns: Columns under other names: by the name here, the name in the rows.

    Raises:
        SmaugError: there are no such pairs, or a row is not one.
    """
    built = Path(path).is_dir() and not is_saved(Path(path))
    place = str(_file_of_folder(Path(path))) if built else path
    is_other = Path(place).is_file() or place.count("/") != 1
    if not place.endswith(FILE_SUFFIXES) and not is_local(place) and is_other:
        raise SmaugError(
            f"pairs {place!r}: neither a pair file nor a Hub id",
            fix=f"give {FORMATS}, a folder that pairs build wrote, or organisation/dataset",
        )
    hub = {"config": config, "split": split, "revision": revision}
    location, found = pairs_to_measure(place, data_root=data_root, columns=columns, **hub)
    if not found.train:
        raise SmaugError(f"{location}: none of {found.rows} rows is a pair to look at ({dict(found.dropped)})")
    return str(location), found


def diagnose_model(
    model: str,
    pairs: tuple[str, PairSet],
    *,
    reference: str | None = None,
    settings: DiagnosisSettings | None = None,
    reporter: Reporter,
) -> dict[str, Any]:
    """Score pairs with a model, and with the model it came from, and report what stands out.

    Args:
        model: Folder, Hub id or ``embedded:demo-model``.
        pairs: From :func:`read_preferences`.
        reference: The model before training, in the same forms; None for none.
        settings: How to look.
        reporter: Shows progress.

    Returns:
        Plain data; log-probabilities and changes are in nats.

        - ``model``, ``reference``: the checkpoints; ``pairs``: what was read, left out and cut; ``forward``: how
          texts were batched.
        - ``edit_distance``: token-level, ``mean`` and ``median``.
        - ``log_probs``: of ``chosen`` and ``rejected`` the mean ``per_pair`` and ``per_token`` and
          :func:`smaug_eval.trainers.diagnostics.by_region`; ``ranked_first`` and ``ranked_first_averaged``, the share
          of pairs whose chosen completion is the likelier one, in sum and per token.
        - ``changes``: with a reference, the same of ``log pi - log pi_ref``, with ``se`` and the share ``below`` the
          reference; else None.
        - ``profile``: :func:`smaug_eval.trainers.diagnostics.profile`.
        - ``gradient_cosine``: ``mean`` and each sampled pair; None if switched off.
        - ``ches``: :func:`smaug_eval.trainers.probes.ches` of the reference, or of the model where none is given
          (``of`` names it), with the pairs where it is highest; None where the model does not show its hidden states.
        - ``correlations``: with a reference, Spearman's rank correlation of the chosen log-ratio with CHES, its
          normalised form, and the edit distance.
        - ``buckets``: means by edit distance. ``warning``: a sentence or None.

    Raises:
        SmaugError: a model cannot be used, the two split text into different tokens, or no pair is left.
    """
    settings = settings or DiagnosisSettings()
    # Both models are scored on the same day.
    settings = replace(settings, date=settings.date or datetime.datetime.now().astimezone().date())
    checkpoint = locate(model, uses=[_use(settings)])
    before = None if reference is None else locate(reference, uses=[Use.SCORING])
    name, found = pairs
    rows = [pair.row() for pair in found.train[: settings.limit]]
    with quiet_transformers():
        earlier = None if before is None else _look(before, rows, settings, reporter, hidden=True, gradients=False)
        look = _look(checkpoint, rows, settings, reporter, hidden=before is None, gradients=True)
    if earlier is not None and earlier.encoded.sha256() != look.encoded.sha256():
        raise SmaugError(
            f"{model} and {reference} split the pairs into different tokens, so that their log-probabilities cannot be "
            "compared token by token",
            fix="give the model that this one was trained from",
        )
    scored = look.encoded.pairs
    distances = edit_distances(scored)
    base = earlier or look
    ratios = None if earlier is None else log_ratios(look.tokens, earlier.tokens)
    named = {"reference": earlier.tokens} if earlier else {}
    return {
        "model": checkpoint.describe(),
        "reference": None if before is None else before.describe(),
        "pairs": {
            "path": name,
            **({} if found.revision is None else {"revision": found.revision}),
            "rows": found.rows,
            "scored": len(scored),
            "dropped": dict(sorted((found.dropped + look.encoded.dropped).items())),
            "truncated": look.encoded.truncated,
        },
        "forward": look.forward,
        "edit_distance": _mean_and_median(distances),
        "log_probs": _log_probs(look),
        "changes": None if earlier is None or ratios is None else _changes(look, earlier, ratios),
        "profile": profile({**named, "model": look.tokens}, scored),
        "gradient_cosine": _cosines(look),
        "ches": _ches(base, model if reference is None else reference),
        "correlations": None if ratios is None else _correlations(ratios["log_ratio_chosen"], base.ches, distances),
        "buckets": by_bucket(distances, _by_pair(look, base.ches) | (ratios or {})),
        "warning": None if ratios is None else falling_warning(ratios["log_ratio_chosen"], what=f"{model}: training"),
    }


def check_models(model: str, reference: str | None, settings: DiagnosisSettings) -> None:
    """Find out from their configurations whether the models can be looked at, before any data are read.

    Raises:
        SmaugError: one cannot, or is not there.
    """
    check_uses(model, [_use(settings)])
    if reference is not None:
        check_uses(reference, [Use.SCORING])


def _use(settings: DiagnosisSettings) -> Use:
    return Use.DIAGNOSIS if settings.gradient_pairs else Use.SCORING


def _file_of_folder(folder: Path) -> Path:
    for name in (EVAL_FILE, TRAIN_FILE):
        file = folder / name
        if file.is_file() and file.stat().st_size:
            return file
    raise SmaugError(
        f"{folder} has neither {EVAL_FILE} nor {TRAIN_FILE} with pairs", fix="give a folder that pairs build wrote"
    )


def _look(
    checkpoint: Checkpoint,
    rows: Sequence[dict[str, Any]],
    settings: DiagnosisSettings,
    reporter: Reporter,
    *,
    hidden: bool,
    gradients: bool,
) -> _Look:
    """Load one model, ask it everything that is wanted of it, and let it go again."""
    if settings.dtype not in ("auto", *DTYPES):
        raise SmaugError(f"dtype {settings.dtype!r} is not known here", fix=f"choose auto, {', '.join(DTYPES)}")
    own = checkpoint.dtype if checkpoint.dtype in DTYPES else "float32"  # which holds what float16 does
    dtype = own if settings.dtype == "auto" else settings.dtype
    model, tokenizer = load_model(
        checkpoint.path,
        dtype=dtype,
        keep_dtype=True,
        use=Use.DIAGNOSIS if gradients and settings.gradient_pairs else Use.SCORING,
    )
    if torch.cuda.is_available() and getattr(model, "hf_device_map", None) is None:
        model.to("cuda")
    max_length = fitting_length(settings.max_length, model)
    encoded = PairEncoder(tokenizer, max_length, date=settings.date).encode(rows)
    if not encoded.pairs:
        reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in encoded.dropped.items())
        raise SmaugError(f"no pair is left to score ({reasons})", fix="raise --max-length, or give other pairs")
    check_ids(encoded.pairs, model, checkpoint.path)
    pairs = encoded.pairs
    for remark in remarks(encoded, "pairs", asked=settings.max_length, used=max_length):
        reporter.say(f"{checkpoint.source}: {remark.text}")
    sample = sampled_indices(len(pairs), settings.gradient_pairs if gradients else 0, settings.seed)
    with scoring(model) as scorer:
        with reporter.stage(f"score the pairs with {checkpoint.source}"):
            tokens = score_pairs(
                scorer, model, pairs, row_tokens=ROW_TOKENS, autocast=None, before_batch=reporter.update
            )
        found = None
        if hidden:
            with reporter.stage(f"hidden states of {checkpoint.source}"):
                try:
                    found = ches(scorer, model, pairs, row_tokens=ROW_TOKENS, before_batch=reporter.update)
                except NoHiddenStates as error:
                    reporter.warn(f"no CHES of {checkpoint.source}: {error}")
        cosines: dict[int, float | None] = {}
        with reporter.stage(f"gradients of {checkpoint.source}"):
            for done, index in enumerate(sample):
                reporter.update(done, len(sample))
                (cosines[index],) = gradient_cosines(scorer, model, [pairs[index]])
        forward = scorer.describe()
    snippets = [_snippet(tokenizer, pair) for pair in pairs]
    del model
    gc.collect()
    return _Look(encoded, tokens, found, cosines, forward, snippets)


def _snippet(tokenizer: Any, pair: EncodedPair) -> str:
    """The end of the prompt's last line and the beginning of the chosen completion, for a reader to know a pair by."""
    prompt = " ".join(tokenizer.decode(pair.prompt[-SNIPPET:], skip_special_tokens=True).split())
    chosen = " ".join(tokenizer.decode(pair.chosen[:SNIPPET], skip_special_tokens=True).split())
    return f"{prompt[-SNIPPET // 2 :]} | {chosen[:SNIPPET]}"


def _log_probs(look: _Look) -> dict[str, Any]:
    pairs = look.encoded.pairs
    sums = look.tokens.sums
    averages = [np.array([tokens.mean(dtype=np.float64) for tokens in getattr(look.tokens, side)]) for side in SIDES]
    sides = {
        side: {
            "per_pair": float(total.mean()),
            "per_token": float(average.mean()),
            **by_region(getattr(look.tokens, side), pairs),
        }
        for side, total, average in zip(SIDES, sums, averages, strict=True)
    }
    return {
        **sides,
        "ranked_first": float(np.mean(sums[0] > sums[1])),
        "ranked_first_averaged": float(np.mean(averages[0] > averages[1])),
    }


def _changes(look: _Look, earlier: _Look, ratios: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for side in SIDES:
        ratio = ratios[f"log_ratio_{side}"]
        mean, error = mean_and_error(ratio)
        moved = differences(look.tokens, earlier.tokens, side)
        found[side] = {
            "per_pair": mean,
            "se": error,
            "below": float(np.mean(ratio < 0)),
            "per_token": float(np.mean([tokens.mean() for tokens in moved])),
            **by_region(moved, look.encoded.pairs),
        }
    return found


def _by_pair(look: _Look, scores: list[Ches] | None) -> dict[str, Any]:
    chosen, rejected = look.tokens.sums
    values = {
        "log_prob_chosen": chosen,
        "log_prob_rejected": rejected,
        "ranked_first": (chosen > rejected).astype(np.float64),
    }
    return values if scores is None else values | {"ches_normalised": np.array([each.normalised for each in scores])}


def _cosines(look: _Look) -> dict[str, Any] | None:
    if not look.cosines:
        return None
    defined = [value for value in look.cosines.values() if value is not None]
    return {
        "mean": float(np.mean(defined)) if defined else None,
        "each": [{"pair": index, "cosine": value} for index, value in look.cosines.items()],
    }


def _ches(base: _Look, name: str) -> dict[str, Any] | None:
    if base.ches is None:
        return None
    order = sorted(enumerate(base.ches), key=lambda item: -item[1].normalised)
    return {
        "of": name,
        "score": _mean_and_median([each.score for each in base.ches]),
        "normalised": _mean_and_median([each.normalised for each in base.ches]),
        "highest_normalised": [
            {"pair": index, "score": each.score, "normalised": each.normalised, "text": base.snippets[index]}
            for index, each in order[:HIGHEST]
        ],
    }


def _correlations(rho_w: Any, scores: list[Ches] | None, distances: Sequence[float]) -> dict[str, float | None]:
    predictors: dict[str, list[float]] = {"edit_distance": list(distances)}
    if scores is not None:
        predictors["ches"] = [each.score for each in scores]
        predictors["ches_normalised"] = [each.normalised for each in scores]
    return {name: rank_correlation(values, rho_w) for name, values in predictors.items()}


def _mean_and_median(values: Sequence[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "median": float(np.median(values))}
