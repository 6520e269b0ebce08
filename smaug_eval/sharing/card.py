"""Write a checkpoint's model card with its results in the Hub's own metadata (``model-index``)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.names import is_there, with_revision
from smaug_eval.common.text import fixed
from smaug_eval.reports.markdown import escaped
from smaug_eval.results.comparison import Comparison
from smaug_eval.results.json_files import mapping
from smaug_eval.results.sources import Source
from smaug_eval.sharing.measured import MeasuredScore, judged_sentences, measured

CARD = "README.md"
TASK = "text-generation"
HARNESS = "lm-evaluation-harness"
HARNESS_URL = "https://github.com/EleutherAI/lm-evaluation-harness"
_HEADING = "## Results"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class CardFacts:
    """Hold what a card says beside the results.

    Attributes:
        name: Of the model, in ``model-index``.
        license: Its identifier on the Hub; None to say none.
        base_model: The base's id on the Hub; None where it has none.
        relation: ``adapter`` or ``finetune``: what it is to its base.
        datasets: Ids of the data sets that it was trained on.
    """

    name: str
    license: str | None
    base_model: str | None
    relation: str
    datasets: tuple[str, ...]


def card_text(source: Source, comparison: Comparison, model: str, written: str, facts: CardFacts) -> str:
    """Return a model card with a model's results.

    Args:
        source: The run.
        comparison: Of its models.
        model: Its name in the run.
        written: The card as the training wrote it; a section of results is replaced.
        facts: What else the metadata say.

    Raises:
        SmaugError: the card's metadata are not YAML.
    """
    from huggingface_hub import ModelCard, ModelCardData

    try:
        card = ModelCard(written, ignore_metadata_errors=False)
    except (ValueError, TypeError) as error:
        raise SmaugError(f"{CARD} of {model}: its metadata cannot be read: {error}", fix="correct its YAML") from error
    scores = measured(comparison, model) if model in comparison.models else []
    kept = {key: value for key, value in card.data.to_dict().items() if key not in ("model-index", "eval_results")}
    own: dict[str, Any] = {
        "license": facts.license,
        "base_model": facts.base_model,
        "base_model_relation": facts.relation if facts.base_model else None,
        "datasets": list(facts.datasets) or None,
    }
    if scores:
        own |= {"model_name": facts.name, "eval_results": eval_results(scores)}
    data = ModelCardData(**{**kept, **{key: value for key, value in own.items() if value is not None}})
    text = card.text.partition(f"\n{_HEADING}\n")[0].strip()
    section = "\n".join(_section(source, comparison, model, scores))
    return f"---\n{data.to_yaml()}\n---\n{text}\n\n{section}".rstrip() + "\n"


def eval_results(scores: Sequence[MeasuredScore]) -> list[Any]:
    """Return scores as the Hub's ``EvalResult``: data set, revision, metric and number, and the report's sentence.

    The sentence, the standard error, the interval and the number of documents are the metric's arguments.
    """
    from huggingface_hub import EvalResult

    found = []
    for each in scores:
        data = each.data
        arguments = {
            "sentence": each.sentence or None,
            "stderr": each.score.stderr,
            "interval_95": None if each.score.interval is None else list(each.score.interval),
            "documents": each.score.n,
            "unit": each.unit or None,
            "notes": list(each.score.notes) or None,
        }
        shots = {} if each.shots is None else {"num_few_shot": each.shots}
        found.append(
            EvalResult(
                task_type=TASK,
                task_name="Text Generation",
                dataset_type=each.suite if data is None else data.name,
                dataset_name=f"{each.suite}: {each.title}" if data is None else _shown(each),
                dataset_config=None if data is None or not data.on_hub else data.config,
                dataset_split=None if data is None else data.split,
                dataset_revision=None if data is None else data.revision,
                dataset_args=shots or None,
                metric_type=each.metric.partition(",")[0],
                metric_name=f"{each.title} ({each.metric})",
                metric_value=each.score.value,
                metric_args={key: value for key, value in arguments.items() if value is not None},
                source_name=HARNESS,
                source_url=HARNESS_URL,
            )
        )
    return found


def _shown(score: MeasuredScore) -> str:
    return score.title if score.shots is None else f"{score.title} ({score.shots}-shot)"


def _section(source: Source, comparison: Comparison, model: str, scores: Sequence[MeasuredScore]) -> list[str]:
    """The results for people: sentences, and a table."""
    said = [each.sentence for each in scores if each.data is None and each.sentence]
    said += judged_sentences(comparison, model)
    lines = [_HEADING, "", *(f"- {escaped(sentence)}." for sentence in said)]
    if scores:
        against = f"against {comparison.baseline}" if comparison.baseline not in (None, model) else ""
        lines += ["", f"| suite | benchmark | metric | score | documents | {against} |", "|---|---|---|---:|---:|---|"]
        for each in scores:
            number = f"{fixed(each.score.value)}{each.unit}"
            n = "" if each.score.n is None else f"{each.score.n:,}"
            sentence = "" if each.data is None else each.sentence
            shown = "" if each.data is None else _shown(each)
            cells = map(escaped, (each.suite, shown or each.title, each.metric, number, n, sentence))
            lines.append(f"| {' | '.join(cells)} |")
    elif not said:
        lines.append("The run scored this model on nothing.")
    lines += ["", "`report.html` has the whole comparison, with intervals and what stands behind them."]
    return lines


def trained_on(source: Source, model: str) -> tuple[str, ...]:
    """Return the Hub's data sets that a model was trained on, as its run's recipe names them."""
    recipe = mapping((source.manifest or {}).get("recipe"))
    sets, found = mapping(recipe.get("pairs")), []
    left = [mapping(mapping(recipe.get("trainings")).get(model)).get("pairs")]
    while left:
        pair_set = mapping(sets.get(str(left.pop())))
        left += list(mapping(pair_set.get("sets")))
        path = pair_set.get("path")
        if isinstance(path, str) and _HUB_ID.fullmatch(path) and not is_there(Path(path)):
            found.append(path)
    return tuple(dict.fromkeys(found))


def base_on_hub(source: Source, card_data: Mapping[str, Any]) -> str | None:
    """Return the base's id on the Hub, as the training's card or the manifest names it; None for one from elsewhere."""
    named = card_data.get("base_model")
    if isinstance(named, str) and _HUB_ID.fullmatch(named):
        return named
    given = mapping(mapping((source.manifest or {}).get("models")).get("base")).get("source")
    if not isinstance(given, str) or is_there(Path(given)):
        return None
    name, _ = with_revision(given)
    return name if _HUB_ID.fullmatch(name) else None
