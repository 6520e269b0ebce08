"""Which model a name means: an embedded one, a local Hugging Face checkpoint, or one on the Hub."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from smaug_eval.digests import sha256_of_files
from smaug_eval.embedded import PREFIX, embedded_path
from smaug_eval.errors import SmaugError
from smaug_eval.files import read_json
from smaug_eval.names import given_path, is_file_name, is_there, refuse_unreadable
from smaug_eval.own_code import CODE_PATTERN, check_own_code
from smaug_eval.to_safetensors import conversion_command, pickled_files

CHECKPOINT_PATTERNS = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
)
"""The files of a checkpoint that decide its numbers. Pickled weights and remote code are left where they are."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on this machine.

    Attributes:
        source: The name the user gave.
        path: The folder that holds it.
        revision: The Hub commit it came from, if it did.
        sha256: One hash over weights, configuration and tokenizer, and over its code where that may run.
        trust_remote_code: Whether Python code that came with it may run.
    """

    source: str
    path: Path
    revision: str | None
    sha256: str
    trust_remote_code: bool = False

    @property
    def dtype(self) -> str:
        """The precision the weights were saved in, as the configuration states it; float32 where it does not."""
        config = _config(self.path)
        return str(config.get("dtype") or config.get("torch_dtype") or "float32")

    def describe(self) -> dict[str, Any]:
        """The checkpoint as manifest entries, with what its configuration says of it."""
        config = _config(self.path)
        architectures = config.get("architectures")
        return {
            "source": self.source,
            "path": str(self.path),
            "revision": self.revision,
            "sha256": self.sha256,
            "dtype": self.dtype,
            "architecture": str(architectures[0]) if isinstance(architectures, list) and architectures else "unknown",
            "weights_bytes": sum(file.stat().st_size for file in self.path.glob("*.safetensors")),
            **({"trust_remote_code": True} if self.trust_remote_code else {}),
        }


def locate(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> Checkpoint:
    """Find a model by name and make sure it is a complete safetensors checkpoint.

    Args:
        name: ``embedded:...``, a folder, or a Hub id (``organisation/model``).
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Whether Python code that comes with it may run.

    Raises:
        SmaugError: there is no such model, it cannot be fetched, a needed file is missing or damaged, its weights are
            pickled, or it needs code of its own that is not trusted.
    """
    if name.startswith(PREFIX):
        return _local(name, embedded_path(name))
    path = given_path(name)
    if is_there(path):
        if revision is not None:
            raise SmaugError(
                f"model.revision is {revision!r}, but {name} is a local folder", fix="remove model.revision"
            )
        return _local(name, path, trusted=trust_remote_code)
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise SmaugError(
            f"model {name!r}: no such folder",
            fix="give a folder with config.json and *.safetensors, or a Hub id (organisation/model)",
        )
    return _from_hub(name, revision, trust_remote_code)


def checkpoint_files(path: Path, *, with_code: bool = False) -> list[Path]:
    """The files of a checkpoint that decide its numbers, sorted; its Python code only where it may run."""
    patterns = (*CHECKPOINT_PATTERNS, *([CODE_PATTERN] if with_code else ()))
    return sorted({file for pattern in patterns for file in path.glob(pattern) if file.is_file()})


def _local(source: str, path: Path, revision: str | None = None, *, trusted: bool = False) -> Checkpoint:
    if path.is_file():
        refuse_unreadable(source, "model")
    if not path.is_dir():
        raise SmaugError(f"model {source!r}: {path} is not a folder", fix="give the folder that holds config.json")
    if not (path / "config.json").is_file():
        raise SmaugError(f"model {source!r}: {path} has no config.json", fix="give the folder of a checkpoint")
    if not any(path.glob("*.safetensors")):
        pickled = pickled_files(path)
        if pickled:
            names = ", ".join(file.name for file in pickled)
            raise SmaugError(
                f"model {source!r}: only pickled weights ({names}); they can run code and are refused",
                fix=f"convert them, which runs none: {conversion_command(path)}",
            )
        raise SmaugError(f"model {source!r}: {path} has no *.safetensors", fix="fetch the weights again")
    check_own_code(source, path, trusted=trusted)
    _check_shards(source, path)
    _check_whole(source, path)
    if not any((path / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise SmaugError(
            f"model {source!r}: {path} has no tokenizer", fix="put the base model's tokenizer files beside the weights"
        )
    digest = sha256_of_files(checkpoint_files(path, with_code=trusted), path)
    return Checkpoint(source, path.resolve(), revision, digest, trusted)


def _config(path: Path) -> dict[str, Any]:
    config = read_json(path / "config.json")
    if not isinstance(config, dict):
        raise SmaugError(f"{path / 'config.json'} is no JSON object", fix="fetch the checkpoint again")
    return config


def _check_shards(source: str, path: Path) -> None:
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    shards = set(map(str, weight_map.values())) if isinstance(weight_map, dict) else None
    if shards is None or not all(map(is_file_name, shards)):
        raise SmaugError(
            f"model {source!r}: {index.name} does not map weights to files of its own folder",
            fix="do not trust this checkpoint; fetch it again from where you know it",
        )
    missing = sorted(shard for shard in shards if not (path / shard).is_file())
    if missing:
        raise SmaugError(f"model {source!r}: missing weight files {', '.join(missing)}", fix="fetch the weights again")


def _check_whole(source: str, path: Path) -> None:
    """Open every file of weights, which fails unless its header is whole and its size is what that says."""
    for file in sorted(path.glob("*.safetensors")):
        try:
            with safe_open(file, framework="numpy"):
                pass
        except (SafetensorError, OSError, ValueError) as error:
            raise SmaugError(
                f"model {source!r}: {file} is truncated or damaged: {error}", fix="fetch or copy the file again"
            ) from error


def _from_hub(name: str, revision: str | None, trusted: bool) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    patterns = [*CHECKPOINT_PATTERNS, *([CODE_PATTERN] if trusted else ())]
    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=patterns)
    except GatedRepoError as error:
        raise SmaugError(
            f"model {name!r} is gated on the Hub", fix="accept its licence there and set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise SmaugError(f"model {name!r} has no revision {revision!r}", fix="check model.revision") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise SmaugError(
            f"model {name!r}: no such folder here and no such model on the Hub",
            fix="check the spelling; a private model needs HF_TOKEN",
        ) from error
    except LocalEntryNotFoundError as error:
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        why = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        raise SmaugError(
            f"model {name!r}: no such folder, not in the local Hub cache, and {why}",
            fix="check the path, or fetch the model first (hf download) on a machine with network",
        ) from error
    except OSError as error:
        raise SmaugError(f"model {name!r} cannot be fetched from the Hub: {error}", fix="try again later") from error
    path = Path(folder)
    commit = path.name if path.parent.name == "snapshots" else revision
    return _local(name, path, commit, trusted=trusted)
