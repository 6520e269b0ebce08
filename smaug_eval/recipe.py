"""What a run is: one YAML file, read into checked data. Unknown keys are refused, with the nearest valid name.

Relative paths in a recipe are relative to the recipe's folder; those given with ``--set`` to the current directory.
"""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from smaug_eval.embedded import PREFIX, embedded_path
from smaug_eval.errors import SmaugError
from smaug_eval.mt_bench.config import DEMO, MT_BENCH, MtBenchConfig
from smaug_eval.names import given_path, is_plain_name, is_there
from smaug_eval.redaction import keep_settings_secret
from smaug_eval.safe_yaml import parse_yaml
from smaug_eval.study.config import BASE as BASE
from smaug_eval.study.config import Study
from smaug_eval.suggest import nearest, there_is
from trainers.config import FILE_SUFFIXES, MixturePairs, PairsConfig, Seed, TrainingConfig

_ERRORS_SHOWN = 8


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ModelSpec(_Strict):
    """The base model."""

    path: str = Field(min_length=1, description="A checkpoint's folder, a Hub id, or embedded:demo-model.")
    revision: str | None = Field(None, description="Branch, tag or commit on the Hub.")
    dtype: Literal["float32", "bfloat16", "float16", "auto"] = Field(
        "auto", description="Precision to train and evaluate in; auto is the checkpoint's own."
    )
    trust_remote_code: bool = Field(
        False, description="Run Python code that came with this checkpoint; read it before."
    )


class EvaluationConfig(_Strict):
    """One benchmark suite, run on the base model and on every trained one."""

    suite: str = Field("open_llm_v1", description="open_llm_v1 (the archived leaderboard) or demo.")
    tasks: list[str] | None = Field(None, description="Tasks of the suite to run; all if empty.")
    limit: PositiveInt | None = Field(
        None, description="First documents of each task, in protocol order; all if empty."
    )
    engine: Literal["auto", "torch", "vllm", "hf", "lm-eval-vllm"] = Field(
        "auto",
        description="What runs the model: torch or vllm, which compute shared prefixes once and keep a journal, or "
        "lm-eval's own hf or lm-eval-vllm; auto is vllm where it and a GPU are there, else torch.",
    )
    batch_size: PositiveInt | Literal["auto"] = Field(
        8, description="Sequences per forward pass of the hf engine; torch generates with it."
    )
    device: str | None = Field(None, description="cpu, cuda, cuda:1, ...; the best there is if empty (torch, hf).")
    engine_args: dict[str, Any] = Field(
        default_factory=dict, description="Further arguments of lm-eval's model, such as tensor_parallel_size."
    )
    models: list[str] | None = Field(
        None,
        description=f"Of {BASE}, the trainings' names and, in a study, its arms or <arm>.<set>; all if empty.",
    )

    @field_validator("tasks")
    @classmethod
    def _all_if_empty(cls, value: list[str] | None) -> list[str] | None:
        return value or None


class ReportConfig(_Strict):
    """The HTML comparison."""

    title: str | None = Field(None, description="Heading of the report; the recipe's name if empty.")
    baseline: str = Field(
        BASE,
        description="The model that differences are taken against (default: base, or the first that is scored).",
    )


class Recipe(_Strict):
    """A whole run: base model, pair sets, trainings, evaluations and report."""

    name: str = Field(description="Name of the run; its folder under the runs directory.")
    description: str | None = Field(None, description="What the run is for; shown in the report.")
    seed: Seed = Field(42, description="Seed of everything that has none of its own.")
    model: ModelSpec = Field(description="The base model; a plain string is its path.")
    data_root: str | None = Field(None, description="Offline mirror of the Hub's data sets; the Hub if empty.")
    pairs: dict[str, PairsConfig] = Field(default_factory=dict, description="Pair sets by name.")
    trainings: dict[str, TrainingConfig] = Field(default_factory=dict, description="Trainings by name.")
    study: Study | None = Field(None, description="A grid of trainings, and the questions put to it.")
    evaluations: dict[str, EvaluationConfig] = Field(default_factory=dict, description="Evaluations by name.")
    mt_bench: dict[str, MtBenchConfig] = Field(default_factory=dict, description="Dialogues and their judges by name.")
    report: ReportConfig = Field(default_factory=lambda: ReportConfig(), description="The report.")

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        return _checked_name(value)

    @field_validator("pairs", "trainings", "evaluations", "mt_bench")
    @classmethod
    def _safe_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            _checked_name(name)
        return value

    @field_validator("pairs", mode="before")
    @classmethod
    def _embedded_pairs(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: _with_embedded_path(pair_set) for name, pair_set in value.items()}

    @field_validator("model", mode="before")
    @classmethod
    def _model_from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _names_fit_together(self) -> Recipe:
        if BASE in self.trainings:
            raise ValueError(f"trainings.{BASE}: this name means the model before training; choose another")
        if self.study is not None:
            self._add_study(self.study)
        for name, training in self.trainings.items():
            if training.pairs is None:
                if len(self.pairs) != 1:
                    which = ", ".join(self.pairs) or "none"
                    raise ValueError(f"trainings.{name}.pairs: name one of the pair sets ({which})")
                training.pairs = next(iter(self.pairs))
            elif training.pairs not in self.pairs:
                hint = nearest(training.pairs, self.pairs)
                raise ValueError(f"trainings.{name}.pairs = {training.pairs!r}: no such pair set{hint}")
        for name, pair_set in self.pairs.items():
            if isinstance(pair_set, MixturePairs):
                self._check_mixture(name, pair_set)
        known = [BASE, *self.trainings]
        for key, entries in (("evaluations", self.evaluations), ("mt_bench", self.mt_bench)):
            for name, entry in entries.items():
                if self.study is not None and entry.models:
                    entry.models = [part for model in entry.models for part in self.study.models_of(model) or [model]]
                for model in entry.models or []:
                    if model not in known:
                        options = [*known, *(self.study.arms if self.study is not None else ())]
                        raise ValueError(f"{key}.{name}.models: no model {model!r}{nearest(model, options)}")
        if self.report.baseline not in known:
            raise ValueError(
                f"report.baseline = {self.report.baseline!r}: no such model{nearest(self.report.baseline, known)}"
            )
        self._settle_baseline()
        return self

    def _settle_baseline(self) -> None:
        """Differences need a model that is scored: where the base is not, the first that is."""
        entries: Sequence[EvaluationConfig | MtBenchConfig] = [*(self.evaluations or self.mt_bench).values()]
        scored = [model for model in self.model_names if any(model in self.models_of(entry) for entry in entries)]
        if not scored or self.report.baseline in scored:
            return
        if "baseline" in self.report.model_fields_set:
            raise ValueError(f"report.baseline = {self.report.baseline!r}: no evaluation is for this model")
        self.report.baseline = scored[0]

    def _add_study(self, study: Study) -> None:
        """Make the study's grid part of the trainings; those of a recipe that was written out with it are there."""
        for arm, config in study.arms.items():
            for pair_set in config.sets:
                if pair_set not in self.pairs:
                    raise ValueError(f"study.arms.{arm}.sets: no pair set {pair_set!r}{nearest(pair_set, self.pairs)}")
        for name, training in study.trainings().items():
            try:
                _checked_name(name)
            except ValueError as error:
                raise ValueError(f"study.arms: {error}; shorten the arm's or the set's name") from None
            if self.trainings.setdefault(name, training) != training:
                raise ValueError(f"trainings.{name}: the study makes a training of this name; rename one of them")

    def _check_mixture(self, name: str, mixture: MixturePairs) -> None:
        sources = [other for other, pair_set in self.pairs.items() if not isinstance(pair_set, MixturePairs)]
        for part in mixture.sets:
            if part in sources:
                continue
            if part == name:
                raise ValueError(f"pairs.{name}.sets: {part!r} is this mixture itself{there_is(sources)}")
            if part in self.pairs:
                raise ValueError(
                    f"pairs.{name}.sets: {part!r} is a mixture too: name the sets it draws from{there_is(sources)}"
                )
            raise ValueError(f"pairs.{name}.sets: no pair set {part!r}{nearest(part, sources)}")

    @property
    def model_names(self) -> list[str]:
        """The base and every training, in order."""
        return [BASE, *self.trainings]

    def rounds(self) -> list[list[str]]:
        """The trainings in the order of work: all at once or, of a study, one seed of the whole grid after the other.

        Each round is evaluated before the next begins, so that a study that is not finished can be read already.
        """
        by_seed = self.study.rounds() if self.study is not None else [[]]
        own = [name for name in self.trainings if not any(name in names for names in by_seed)]
        return [[*own, *by_seed[0]], *by_seed[1:]]

    def models_of(self, entry: EvaluationConfig | MtBenchConfig) -> list[str]:
        """The models that an evaluation or dialogues are for, in order."""
        return [model for model in self.model_names if not entry.models or model in entry.models]


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply ``key=value`` overrides.

    Args:
        path: The YAML file.
        overrides: Dotted keys with YAML values, such as ``trainings.dpop.beta=0.1``.

    Raises:
        SmaugError: the file or an override is malformed; the message names line, key and value.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise SmaugError(f"{path} is not UTF-8 text", fix="save it as UTF-8") from error
    except OSError as error:
        raise SmaugError(f"{path} cannot be read: {error.strerror or error}") from error
    raw, lines = _parse_yaml(text, path)
    raw.setdefault("name", path.stem)
    raw = _anchored(raw, path.resolve().parent)
    for override in overrides:
        key, value = _parse_override(override)
        _assign(raw, key, value, override)
        lines[key] = f"--set {override}"
    return parse_recipe(raw, where=str(path), lines=lines)


def parse_recipe(
    raw: Mapping[str, Any], *, where: str = "recipe", lines: Mapping[tuple[str, ...], int | str] | None = None
) -> Recipe:
    """Check plain data against the recipe's schema.

    Args:
        raw: What the YAML held.
        where: Name of the source, for messages.
        lines: Line number (or other place) of each key path, for messages.

    Raises:
        SmaugError: something does not fit; every misfit is listed.
    """
    keep_settings_secret(raw)
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        found = [_explain(detail, where, lines or {}) for detail in error.errors(include_url=False)]
        shown = found[:_ERRORS_SHOWN]
        if len(found) > len(shown):
            shown.append(f"... and {len(found) - len(shown)} more")
        raise SmaugError("\n".join(shown), fix="the README explains every key; mend the recipe and try again") from None


def parse_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """``key=value`` settings, with dotted keys and YAML values, as nested plain data.

    Raises:
        SmaugError: one is malformed.
    """
    settings: dict[str, Any] = {}
    for override in overrides:
        key, value = _parse_override(override)
        _assign(settings, key, value, override)
    return settings


def recipe_as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe with every default filled in, as plain data under the names that YAML uses."""
    return recipe.model_dump(mode="json", by_alias=True)


def _with_embedded_path(pair_set: Any) -> Any:
    path = pair_set.get("path") if isinstance(pair_set, Mapping) else None
    if isinstance(path, str) and path.startswith(PREFIX):
        return {**pair_set, "path": str(embedded_path(path))}
    return pair_set


def _checked_name(value: str) -> str:
    if not is_plain_name(value):
        raise ValueError(
            f"the name {value[:80]!r} must be letters, digits, '.', '_' or '-', 64 at most (it becomes a folder)"
        )
    return value


def _parse_yaml(text: str, path: Path) -> tuple[dict[str, Any], dict[tuple[str, ...], int | str]]:
    raw, node = parse_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise SmaugError(f"{path}: a recipe is a mapping of keys (model, pairs, ...)", fix="see recipes/demo.yaml")
    return raw, dict(_key_lines(node, ()))


def _key_lines(node: yaml.Node | None, prefix: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = (*prefix, str(key.value))
            yield path, key.start_mark.line + 1
            yield from _key_lines(value, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            path = (*prefix, str(index))
            yield path, value.start_mark.line + 1
            yield from _key_lines(value, path)


def _parse_override(override: str) -> tuple[tuple[str, ...], Any]:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise SmaugError(f"--set {override!r}: not of the form key=value", fix="for example --set model.dtype=bfloat16")
    value, _ = parse_yaml(text, f"--set {override!r}")
    path = tuple(part.strip() for part in key.split("."))
    return path, _anchored(_nested(path, value), Path.cwd(), path)


def _nested(path: Sequence[str], value: Any) -> dict[str, Any]:
    for part in reversed(path):
        value = {part: value}
    return typing.cast("dict[str, Any]", value)


def _assign(raw: dict[str, Any], path: tuple[str, ...], value: Any, override: str) -> None:
    place: Any = raw
    for depth, part in enumerate(path[:-1]):
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict):
            child = place.get(part)
            if depth == 0 and part == "model" and isinstance(child, str):
                child = {"path": child}
            if child is None:
                child = {}
            place[part] = child
            place = child
        else:
            raise SmaugError(
                f"--set {override}: {'.'.join(path[: depth + 1])} is not a mapping", fix="check the key's path"
            )
    if isinstance(place, list) and path[-1].isdigit() and int(path[-1]) < len(place):
        place[int(path[-1])] = value
    elif isinstance(place, dict):
        place[path[-1]] = value
    else:
        raise SmaugError(f"--set {override}: {'.'.join(path[:-1])} is not a mapping", fix="check the key's path")


def _anchored(raw: dict[str, Any], folder: Path, pick: Sequence[str] = ()) -> Any:
    """Make the path values of ``raw`` absolute where they mean files, and return the part at ``pick``."""

    def anchor(holder: Any, key: str, *, always: bool = False) -> None:
        value = holder.get(key) if isinstance(holder, dict) else None
        if not isinstance(value, str) or not value or value.startswith(PREFIX):
            return
        path = folder / given_path(value)
        if always or value.startswith((".", "~")) or value.endswith(FILE_SUFFIXES) or is_there(path):
            holder[key] = os.path.normpath(path)

    anchor(raw, "model")
    anchor(raw.get("model"), "path")
    anchor(raw, "data_root", always=True)
    pairs = raw.get("pairs")
    for pair_set in pairs.values() if isinstance(pairs, dict) else ():
        anchor(pair_set, "path")
        anchor(pair_set, "eval_path")
    study: Any = raw.get("study") or {}
    parts = (study.get("arms"), {"": study.get("training")}) if isinstance(study, dict) else ()
    for training in (part for group in (raw.get("trainings"), *parts) for part in _values(group)):
        anchor(training, "launch", always=True)
        anchor(training.get("launch") if isinstance(training, dict) else None, "config", always=True)
    mt_bench = raw.get("mt_bench")
    for dialogues in mt_bench.values() if isinstance(mt_bench, dict) else ():
        if isinstance(dialogues, dict) and dialogues.get("questions") not in (MT_BENCH, DEMO):
            anchor(dialogues, "questions", always=True)
    part: Any = raw
    for key in pick:
        part = part[key]
    return part


def _values(raw: Any) -> Iterable[Any]:
    return raw.values() if isinstance(raw, dict) else ()


def _explain(detail: ErrorDetails, where: str, lines: Mapping[tuple[str, ...], int | str]) -> str:
    keys, fields, tags = _walk(detail["loc"])
    place = next((lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in lines), None)
    prefix = f"{where}, line {place}: " if isinstance(place, int) else f"{place}: " if place else f"{where}: "
    key = ".".join(keys)
    kind, value = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        return f"{prefix}{key} = {_short(value)}: unknown key{nearest(keys[-1], fields)}"
    if kind == "missing":
        return f"{prefix}{key}: this key is required"
    if kind == "union_tag_not_found":
        return f"{prefix}{key}.source: this key is required{nearest('', tags)}"
    if kind == "union_tag_invalid":
        found = str(detail.get("ctx", {}).get("tag", ""))
        return f"{prefix}{key}.source = {found!r}: unknown{nearest(found, tags)}"
    context = detail.get("ctx", {})
    if kind in ("enum", "literal_error") and isinstance(value, str):
        options = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        return f"{prefix}{key} = {value!r}: unknown{nearest(value, options)}"
    message = str(context["error"]) if kind == "value_error" and "error" in context else detail["msg"]
    if kind == "value_error":
        return f"{prefix}{key}: {message}" if key and key not in message else f"{prefix}{message}"
    return f"{prefix}{key} = {_short(value)}: {message[0].lower()}{message[1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _walk(location: tuple[int | str, ...]) -> tuple[tuple[str, ...], list[str], list[str]]:
    """The key path a user would write for an error location, the keys valid at its last level, and the union's tags."""
    keys: list[str] = []
    here: Any = Recipe
    parent: Any = Recipe
    for step in location:
        options = _models(here)
        tagged = {_tag(model): model for model in options if _tag(model)}
        if len(options) > 1 and step in tagged:
            here = tagged[str(step)]
            continue
        parent = here
        keys.append(str(step))
        here = _child(here, str(step))
    return tuple(keys), _field_names(parent), [tag for model in _models(here) if (tag := _tag(model))]


def _models(kind: Any) -> list[type[BaseModel]]:
    origin = typing.get_origin(kind)
    if origin is Annotated:
        return _models(typing.get_args(kind)[0])
    if origin in (typing.Union, UnionType):
        return [model for option in typing.get_args(kind) for model in _models(option)]
    return [kind] if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("source")
    values = typing.get_args(field.annotation) if field else ()
    return values[0] if values else None


def _child(kind: Any, step: str) -> Any:
    if typing.get_origin(kind) is dict:
        return typing.get_args(kind)[1]
    for model in _models(kind):
        for name, field in model.model_fields.items():
            if step in (name, field.alias):
                return field.annotation
    return None


def _field_names(kind: Any) -> list[str]:
    return [field.alias or name for model in _models(kind) for name, field in model.model_fields.items()]
