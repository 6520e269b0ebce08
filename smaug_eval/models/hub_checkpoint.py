"""Fetch a model from the Hub: its configuration first, the rest once that is known to be usable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.common.hub_cache import matches
from smaug_eval.common.hub_commits import exactly, fetch_files, list_files
from smaug_eval.common.names import is_file_name
from smaug_eval.models.adapter_files import ADAPTER_CONFIG, PICKLED_FILE, WEIGHTS_FILE, refuse_adapter
from smaug_eval.models.configuration import CONFIG_FILE, read_config
from smaug_eval.models.to_safetensors import conversion_command, is_pickled

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Any of them is a tokenizer."""


def fetch_config(name: str, commit: str) -> dict[str, Any] | None:
    """Fetch the configuration of a model on the Hub, and nothing else of it.

    Args:
        name: Hub id.
        commit: The commit's full id.

    Returns:
        The configuration; None where only the cache could show whether there is one.

    Raises:
        SmaugError: it cannot be fetched, or the model has none.
    """
    folder = fetch_files("model", name, commit, [exactly(CONFIG_FILE)], quiet=True)
    if (folder / CONFIG_FILE).is_file():
        return read_config(folder)
    if list_files("model", name, commit) is not None:
        refuse_files(name, commit, f"has no {CONFIG_FILE}")
    return None  # not cached, or no such file in a snapshot that is: the whole snapshot shows which


def fetch_model(
    name: str, commit: str, patterns: Sequence[str], *, revision: str | None = None, code: str | None = None
) -> Path:
    """Fetch a model's files that match; returns the folder in the local cache.

    Of the weights it is one set: those that transformers reads, at the top of the repository. Other formats, folders
    with the weights of other programs or of steps of the training, and ``consolidated*`` stay where they are.

    Args:
        name: Hub id.
        commit: The commit's full id.
        patterns: Which files at the top.
        revision: What the user calls the commit, for messages.
        code: Which files of code, at any depth; None for none.

    Raises:
        SmaugError: they cannot be fetched, or the index of the weights names files elsewhere.
    """
    files = list_files("model", name, commit)
    if files is None:  # no list: what the cache has
        return fetch_files("model", name, commit, [*patterns, *([code] if code else ())], revision=revision)
    top = [file for file in files if "/" not in file]
    wanted = [file for file in top if not file.endswith(".safetensors") and matches(file, patterns)]
    wanted += [file for file in files if code is not None and matches(file, [code])]
    wanted += _weights(name, commit, top)
    return fetch_files("model", name, commit, [exactly(file) for file in wanted], revision=revision)


def fetch_adapter(name: str, commit: str, patterns: Sequence[str], *, revision: str | None = None) -> Path:
    """Fetch a PEFT adapter, its tokenizer included where it has one; returns the folder in the local cache.

    Args:
        name: Hub id.
        commit: The commit's full id.
        patterns: Which files beside the adapter's own.
        revision: What the user calls the commit, for messages.

    Raises:
        SmaugError: it is no adapter, its weights are pickled, or it cannot be fetched.
    """
    files = list_files("model", name, commit)
    if files is not None:
        check_adapter_listing(name, files)
    wanted = [ADAPTER_CONFIG, WEIGHTS_FILE]
    wanted += [file for file in files or () if "/" not in file and matches(file, patterns)]
    return fetch_files("model", name, commit, [exactly(file) for file in wanted], revision=revision)


def check_adapter_listing(name: str, files: Sequence[str]) -> None:
    """Refuse a repository that is no PEFT adapter with safetensors weights, by the names of its files.

    Raises:
        SmaugError: it is none.
    """
    if ADAPTER_CONFIG not in files:
        raise SmaugError(f"{name!r} has no {ADAPTER_CONFIG}", fix="give a PEFT adapter")
    if WEIGHTS_FILE in files:
        return
    if PICKLED_FILE not in files:
        raise SmaugError(f"adapter {name!r} has no {WEIGHTS_FILE}", fix="give a PEFT adapter with its weights")
    local = name.rpartition("/")[2]
    raise SmaugError(
        f"adapter {name!r}: its weights are pickled ({PICKLED_FILE}); they can run code and are refused",
        fix=f"convert them, which runs none: hf download {name} --local-dir {local} && "
        f"{conversion_command(Path(local))}, and give that folder",
    )


def read_adapter_config(name: str, commit: str) -> dict[str, Any]:
    """Read the ``adapter_config.json`` of an adapter on the Hub; nothing else of it is fetched.

    Raises:
        SmaugError: it cannot be fetched, or is no JSON object.
    """
    folder = fetch_files("model", name, commit, [exactly(ADAPTER_CONFIG)], quiet=True)
    settings = read_json(folder / ADAPTER_CONFIG)
    if not isinstance(settings, dict):
        raise SmaugError(f"{ADAPTER_CONFIG} of {name!r} is no JSON object", fix="use another revision of it")
    return settings


def fetch_tokenizer(name: str, commit: str, patterns: Sequence[str]) -> Path:
    """Fetch a model's tokenizer and configuration, and nothing else; returns the folder in the local cache.

    Args:
        name: Hub id.
        commit: The commit's full id.
        patterns: Which files.

    Raises:
        SmaugError: they cannot be fetched, or there is no tokenizer.
    """
    files = list_files("model", name, commit)
    wanted = [file for file in files or () if "/" not in file and matches(file, [CONFIG_FILE, *patterns])]
    if files is not None and not any(file in TOKENIZER_FILES for file in wanted):
        raise SmaugError(f"model {name!r} has no tokenizer", fix="name its base model, or a folder with tokenizer.json")
    return fetch_files("model", name, commit, [exactly(file) for file in wanted], quiet=True)


def is_adapter(files: Sequence[str]) -> bool:
    """Check whether a repository is an adapter and no model."""
    own = [file for file in files if "/" not in file and not file.startswith("adapter_model")]
    return ADAPTER_CONFIG in files and not any(file.endswith(".safetensors") or is_pickled(file) for file in own)


def check_listing(name: str, files: Sequence[str], *, names_matter: bool) -> None:
    """Refuse a repository that is no checkpoint, by the names of its files, before anything is fetched.

    Args:
        name: Hub id.
        files: Of the commit.
        names_matter: Whether the weights must have the names that transformers reads.

    Raises:
        SmaugError: it lacks its configuration or its weights, or its weights are of another kind.
    """
    top = [file for file in files if "/" not in file]
    weights = [file for file in top if file.endswith(".safetensors") and not is_foreign(file)]
    local = f"hf download {name} --local-dir {name.rpartition('/')[2]}"
    if CONFIG_FILE not in top or not weights:
        lacks = f"has no {CONFIG_FILE}" if CONFIG_FILE not in top else "has no *.safetensors"
        instead = describe_instead(f"model {name!r}", files, local=local)
        raise instead or SmaugError(
            f"model {name!r} {lacks}{_below(files)}", fix="give a model with config.json and *.safetensors"
        )
    if names_matter and WEIGHTS not in top and INDEX not in top:
        raise wrong_names(name, weights, local=local)


def check_tokenizer(name: str, files: Sequence[str]) -> None:
    """Refuse a repository without a tokenizer, before anything is fetched.

    Raises:
        SmaugError: it has none.
    """
    if not any(file in files for file in TOKENIZER_FILES):
        local = f"hf download {name} --local-dir {name.rpartition('/')[2]}"
        raise SmaugError(
            f"model {name!r} has no tokenizer",
            fix=f"put the base model's tokenizer files beside the weights of a local copy: {local}",
        )


def wrong_names(source: str, weights: Sequence[str], *, local: str | None = None) -> SmaugError:
    """Return the error for weights under names that transformers does not read, such as those of a variant (fp16)."""
    copy = "in a local copy" if local is None else f"in a local copy ({local})"
    return SmaugError(
        f"model {source!r}: its weights are in {', '.join(sorted(weights)[:3])}, which transformers does not read",
        fix=f"{copy}, name the file {WEIGHTS}, or give several an index ({INDEX})",
    )


def is_foreign(file: str) -> bool:
    """Check whether a file of weights is another program's copy of them, which transformers does not read."""
    return file.startswith("consolidated")


def _weights(name: str, commit: str, top: Sequence[str]) -> list[str]:
    """The one set of weights that transformers reads."""
    if WEIGHTS in top:
        return [WEIGHTS]
    if INDEX in top:
        content = read_json(fetch_files("model", name, commit, [exactly(INDEX)], quiet=True) / INDEX)
        weight_map = content.get("weight_map") if isinstance(content, dict) else None
        shards = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else set()
        if shards and all(map(is_file_name, shards)):
            if missing := sorted(shards - set(top)):
                raise SmaugError(
                    f"model {name!r}: missing weight files {', '.join(missing[:3])}: its upload is not complete",
                    fix="use another revision, or ask its authors",
                )
            return sorted(shards)
    return [file for file in top if file.endswith(".safetensors") and not is_foreign(file)]


def _below(files: Sequence[str]) -> str:
    """Where checkpoints are instead, for a repository with several in folders."""
    folders = sorted({file.rpartition("/")[0] for file in files if "/" in file and file.endswith(".safetensors")})
    return f", but some below {_few(folders)}" if folders else ""


def refuse_files(name: str, commit: str, lacks: str) -> NoReturn:
    """Refuse a model on the Hub without the files of a checkpoint, and name what is there instead.

    Args:
        name: Hub id.
        commit: The commit's full id.
        lacks: What it lacks, as text.

    Raises:
        SmaugError: always.
    """
    files = list_files("model", name, commit)
    if files is None:
        raise SmaugError(
            f"model {name!r} {lacks} in the local Hub cache, and the Hub does not answer or must not be asked",
            fix=f"fetch the whole model first, on a machine with network: hf download {name} --revision {commit}",
        )
    if ADAPTER_CONFIG in files:
        refuse_adapter(name, fetch_files("model", name, commit, [exactly(ADAPTER_CONFIG)], quiet=True))
    local = f"hf download {name} --local-dir {name.rpartition('/')[2]}"
    raise describe_instead(f"model {name!r}", files, local=local) or SmaugError(
        f"model {name!r} {lacks}", fix="give a model with config.json and *.safetensors"
    )


def describe_instead(
    what: str, files: Sequence[str], *, local: str | None = None, folder: Path | None = None
) -> SmaugError | None:
    """Describe the error for files that are no checkpoint but something known; None for anything else.

    Args:
        what: The model, as text.
        files: Names of the files that are there.
        local: The command that fetches them into a folder; None where they are in one.
        folder: That folder.
    """
    place = folder if folder is not None else Path((local or "").rpartition(" ")[2])
    first = "" if local is None else f"{local} && "
    plain = sorted(name for name in files if "/" not in name)
    safe = any(name.endswith(".safetensors") for name in plain)
    gguf = [name for name in files if name.endswith(".gguf")]
    if gguf and not safe:
        return SmaugError(
            f"{what} holds GGUF files ({_few(gguf)}), quantised for llama.cpp, which are not loaded here",
            fix="give the model that they were made from, with config.json and *.safetensors",
        )
    pickled = [name for name in plain if is_pickled(name)]
    if pickled and CONFIG_FILE in plain and not safe:
        return SmaugError(
            f"{what}: only pickled weights ({_few(pickled)}); they can run code and are refused",
            fix=f"convert them, which runs none: {first}{conversion_command(place)}",
        )
    return None


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f", and {len(names) - 3} more" if len(names) > 3 else "")
