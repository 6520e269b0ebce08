"""Name a model: by the file that evaluated it, and shortly on a page of several."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from os.path import commonprefix
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from smaug_eval.results.asked import model_arguments
from smaug_eval.results.json_files import mapping

LONG = 20
"""Characters from which on names lose what all of them begin with."""

_ADAPTERS = ("peft", "lora_local_path", "delta")
"""Arguments that name an adapter; lm-eval itself names the base beside some of them."""
_ARGUMENTS = ("pretrained", "model", "path", "model_name", "engine")
"""Arguments that name the evaluated model, best first, as lm-eval itself looks for them."""
_QUANTISED = ("load_in_4bit", "load_in_8bit", "autogptq", "gptqmodel", "quantization")
_GENERIC = re.compile(
    r"(?:checkpoint|ckpt|step|global_step|iter|epoch)[-_]?\d*|final|model|merged|hf|outputs?|latest|best|\d+[bm]", re.I
)
"""Last parts of paths that name nothing."""
_CACHED = re.compile(r"(?:^|[\\/])models--([^\\/]+)[\\/]snapshots[\\/]")
_STORES = frozenset({"huggingface", "hf", "lm", "models", "model", "checkpoints", "checkpoint", "weights", "snapshots"})
"""Folders that say where models are kept, not which."""
_OFF = ("", "none", "false", "main", "0")


class ModelName(NamedTuple):
    """Name a model as a results file does; files of one model have the same name.

    Attributes:
        name: A Hub id as it is, the end of a local path.
        variant: What makes other weights of it: a revision, a quantisation; empty for the model as it comes.
    """

    name: str
    variant: str

    def __str__(self) -> str:
        return f"{self.name}, {self.variant}" if self.variant else self.name


def model_of(document: Mapping[str, Any], path: Path) -> ModelName:
    """Name the model of a results file; the folder the file lies in where nothing else names it."""
    arguments = model_arguments(mapping(document.get("config")))
    found = _given(document)
    name = path.parent.resolve().name if found is None else plain(found)
    if isinstance(file := arguments.get("gguf_file"), str) and file:
        name = f"{name}/{PurePosixPath(file).name}" if name != PurePosixPath(file).name else name
    return ModelName(name, ", ".join(_variants(arguments)))


def folder_of(document: Mapping[str, Any]) -> str:
    """Return the folder of a local model as a results file gives it; empty for models of the Hub, and in its cache.

    Paths may end alike and lead to different models.
    """
    found = _given(document)
    if found is None or not _is_local(found) or _CACHED.search(found):
        return ""
    root = "/" if found.startswith("/") else ""
    return root + "/".join(_parts(found)[:-1])


def _given(document: Mapping[str, Any]) -> str | None:
    """Return what a results file calls its model."""
    config, general = mapping(document.get("config")), mapping(document.get("config_general"))
    arguments = model_arguments(config)
    given = (
        *(arguments.get(key) for key in _ADAPTERS),
        general.get("model_name"),
        _nested_name(general.get("model_config")),
        document.get("model_name"),
        *(arguments.get(key) for key in _ARGUMENTS),
        config.get("model_args") if "=" not in str(config.get("model_args")) else None,
        config.get("model") if _names_a_model(config.get("model")) else None,
    )
    return next((name for name in given if isinstance(name, str) and re.search(r"[^/.~\s]", name)), None)


def plain(name: str) -> str:
    """Return a Hub id as it is, also where the path is one of the Hub's cache; of a local path the last part.

    Of a local path whose last part names nothing, such as "final", it returns two parts.
    """
    if cached := _CACHED.search(name):
        return cached[1].replace("--", "/", 1)
    if not _is_local(name):
        return name.strip()
    parts = _parts(name)
    if not parts:
        return name
    if not _GENERIC.fullmatch(parts[-1]):
        return parts[-1]
    above = [part for part in parts[:-1] if part.lower() not in _STORES] or parts[:-1]
    return "/".join([*above[-1:], parts[-1]])


def _names_a_model(engine: object) -> bool:
    """Return whether ``config.model``, which names the engine, is a model: harness 0.2's "gpt2", or a Hub id."""
    return isinstance(engine, str) and (engine == "gpt2" or re.fullmatch(r"[\w.-]+/[\w.-]+", engine) is not None)


def _is_local(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or name.count("/") > 1 or re.match(r"[A-Za-z]:[\\/]", name) is not None


def _parts(path: str) -> list[str]:
    return [part for part in PurePosixPath(path.replace("\\", "/")).parts if part.strip("/.~")]


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Shorten names by what all begin with, up to a ``/`` or a comma, where one is long; else each stays.

    No two become the same, none becomes empty.
    """
    unique = list(dict.fromkeys(names))
    if len(unique) < 2 or max(map(len, unique)) < LONG:
        return {name: name for name in unique}
    length = len(shared_beginning(unique))
    return {name: name[length:] for name in unique}


def shared_beginning(names: Iterable[str]) -> str:
    """Return what all names begin with, up to and including a ``/`` or ``, `` that each of them continues after."""
    every = list(names)
    common = commonprefix(every)  # noqa: RUF071 - of names, not of paths
    ends = [match.end() for match in re.finditer(r"/|, ", common)]
    return next((common[:end] for end in reversed(ends) if all(len(name) > end for name in every)), "")


def _nested_name(value: object) -> object:
    """Return the name in lighteval's newer ``model_config``."""
    return mapping(value).get("model_name")


def _variants(arguments: Mapping[str, Any]) -> Iterable[str]:
    revision = str(arguments.get("revision") or "")
    if revision.lower() not in _OFF:
        yield f"revision {revision}"
    for key in _QUANTISED:
        value = arguments.get(key)
        if value is not None and str(value).lower() not in _OFF:
            yield key.replace("_", " ") if str(value).lower() == "true" else f"{key.replace('_', ' ')} {value}"
