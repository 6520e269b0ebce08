"""Bring the gated models and the baseline together in one comparison, the report's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.suggest import nearest
from smaug_eval.results.comparison import Comparison, compare
from smaug_eval.results.files import notes_of
from smaug_eval.results.json_files import mapping
from smaug_eval.results.judged import JudgedSet
from smaug_eval.results.merging import names_on_page, with_distinct_labels
from smaug_eval.results.metrics import chosen_metrics
from smaug_eval.results.sources import BASE, Source, read_source, unread_notes


@dataclass(frozen=True)
class Sides:
    """Hold what a gate compares.

    Attributes:
        comparison: Of all models of the run with the baseline, as a report of the same paths makes it.
        baseline: The baseline's name in it; None where only trainings are gated.
        models: Names of the gated models in it.
        trainings: Names of the gated trainings in it.
        notes: What was left out or decided while reading.
        unread: Files of either side that should have been read and were not, and why.
    """

    comparison: Comparison
    baseline: str | None
    models: Sequence[str]
    trainings: Sequence[str]
    notes: Sequence[str]
    unread: Sequence[str] = ()


def bring_together(
    run: Path,
    baseline: str | None,
    *,
    models: Sequence[str] = (),
    baseline_model: str | None = None,
    metrics: Sequence[str] = (),
) -> Sides:
    """Read a run and its baseline, and compare them as a report of both does.

    A model of the run and one of the baseline are two models, whatever they are called.

    Args:
        run: What holds the gated models.
        baseline: A model of the run, or a path that holds the baseline; the run's model "base" where None.
        models: The gated ones; where empty, all of the run but the baseline, and but "base" where there are others.
        baseline_model: Which of the models that the path ``baseline`` holds.
        metrics: As a report takes them.

    Raises:
        SmaugError: a path cannot be read, or it is not said which model is meant.
    """
    choices = chosen_metrics(metrics)
    own = read_source(run)
    held = _models_of(own)
    other = _other(run, baseline, own, held)
    if other is None:
        if baseline_model is not None:
            raise SmaugError(
                "--baseline-model names a model of the path that --baseline gives",
                fix="give a path with --baseline, or the model itself",
            )
        sources, reference = [own], _own_baseline(own, held, baseline)
    else:
        chosen = _chosen_of(other, baseline_model, str(baseline))
        own.stands_apart = other.stands_apart = True
        sources, reference = [own, _reduced(other, chosen)], chosen
    sources = with_distinct_labels(sources)
    named = names_on_page(sources)
    page_name = None if reference is None else named[sources[-1].label][reference]
    comparison = compare(sources, title=None, baseline=page_name, metrics=choices)
    names = named[own.label]
    gated = [names[each] for each in _gated(own, held, models, reference if other is None else None)]
    lacking = [] if models or not held else _unevaluated(own, held)
    taken = set(named[sources[-1].label].values()) | set(gated)
    gated += [f"{own.label}/{name}" if name in taken else name for name in lacking]
    here = {*comparison.models, *comparison.judged_models, *gated[len(gated) - len(lacking) :]}
    wanted = set(gated) if models else set()
    trainings = [training.name for training in comparison.trainings]
    failures = [each for source in sources for each in source.unread if each.is_failure]
    notes = [note for source in sources for note in (*source.missing, *source.notes, *unread_notes(source))]
    notes += notes_of(comparison.unread, None)
    if comparison.study is not None:
        notes.append("a study: one training of each arm is gated; the study's own answer is in its report")
    return Sides(
        comparison,
        comparison.baseline if page_name is not None else None,
        [name for name in gated if name in here],
        [name for name in trainings if name in wanted] or trainings,
        list(dict.fromkeys(notes)),
        notes_of(failures, None),
    )


def _models_of(source: Source) -> list[str]:
    judged = (model for each in source.dialogues for model in each.models)
    return list(dict.fromkeys([*source.results, *judged]))


def _unevaluated(own: Source, held: Sequence[str]) -> list[str]:
    """The run's models that nothing was measured of yet: a run that is not finished does not pass by lacking them."""
    there = {*held, *(own.recorded.get(name, name) for name in held)}
    return [name for name in mapping((own.manifest or {}).get("models")) if name not in there and name != BASE]


def _other(run: Path, baseline: str | None, own: Source, held: Sequence[str]) -> Source | None:
    """What the baseline's path holds; None where the baseline is one of the run's own models."""
    if baseline is None or (baseline in held and len(held) > 1):
        return None
    path = Path(baseline)
    if not path.exists():
        if baseline not in held and baseline not in own.recorded.values() and not _ends(baseline, held):
            raise SmaugError(
                f"--baseline {baseline} is neither a path that exists nor a model of {run}",
                fix=f"give a run directory, a file or folder of results, or one of its models{nearest(baseline, held)}",
            )
        return None
    if path.resolve() == run.resolve():
        raise SmaugError(
            f"--baseline {baseline} is the run itself", fix="name one of its models, or the path of another run"
        )
    return read_source(path)


def _ends(wanted: str, held: Sequence[str]) -> list[str]:
    return [name for name in held if name.endswith((f"/{wanted}", f", {wanted}"))]


def _own_baseline(own: Source, held: Sequence[str], baseline: str | None) -> str | None:
    if baseline is not None:
        return _picked(baseline, own, held, "--baseline")
    if BASE in held:
        return BASE
    if not held:
        return None
    raise SmaugError(
        f"there is no baseline, and no model called {BASE} among {', '.join(held)}",
        fix="name a model of the run or the path of another one with --baseline",
    )


def _picked(wanted: str, source: Source, held: Sequence[str], option: str) -> str:
    """The model that a name means, also by its name in the manifest and by the end of it."""
    recorded = [name for name, old in source.recorded.items() if old == wanted and name in held]
    for found in ([wanted] if wanted in held else [], recorded, _ends(wanted, held)):
        if len(found) == 1:
            return found[0]
    raise SmaugError(
        f"{option} {wanted!r} is none of the models{nearest(wanted, held)}", fix=f"choose one of {', '.join(held)}"
    )


def _chosen_of(other: Source, wanted: str | None, path: str) -> str:
    held = _models_of(other)
    if wanted is not None:
        return _picked(wanted, other, held, "--baseline-model")
    if len(held) == 1:
        return held[0]
    if not held:
        raise SmaugError(f"--baseline {path} holds no results of a model", fix="give a run that was evaluated")
    raise SmaugError(
        f"--baseline {path} holds several models: {', '.join(held)}", fix="choose one with --baseline-model NAME"
    )


def _gated(own: Source, held: Sequence[str], models: Sequence[str], baseline: str | None) -> list[str]:
    """The gated models by their names in the run; ``baseline`` is the one of them that they are compared with."""
    if models:
        found = [_picked(each, own, held, "--model") for each in models]
        if baseline in found:
            raise SmaugError(f"--model {baseline} is the baseline, too", fix="compare it with another model")
        return list(dict.fromkeys(found))
    others = [each for each in held if each != baseline]
    trained = [each for each in others if not (own.is_run and each == BASE)]
    if held and not others:
        raise SmaugError(
            f"{own.label} holds no model but the baseline, {baseline}", fix="name another baseline with --baseline"
        )
    return trained or others


def _reduced(source: Source, model: str) -> Source:
    """A source with one model alone, so that p values are adjusted for the run's models and no others."""
    return replace(
        source,
        results={name: found for name, found in source.results.items() if name == model},
        dialogues=[_of_model(each, model) for each in source.dialogues if model in each.models],
        trainings=[],
    )


def _of_model(each: JudgedSet, model: str) -> JudgedSet:
    judgments = replace(
        each.judgments,
        single=[record for record in each.judgments.single if record.model == model],
        pairs=[],
    )
    return replace(each, judgments=judgments, marks={name: own for name, own in each.marks.items() if name == model})
