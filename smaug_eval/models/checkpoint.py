"""Resolve a model's name: an embedded model, a local Hugging Face checkpoint, or one on the Hub."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from smaug_eval.common.digests import sha256_of_files
from smaug_eval.common.embedded import PREFIX, embedded_path
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json, sha256_of_text
from smaug_eval.common.hub_commits import list_files, resolve_commit
from smaug_eval.common.names import given_path, is_file_name, is_there, refuse_unreadable, with_revision
from smaug_eval.models.adapter_files import (
    adapter_settings,
    base_of,
    has_own_tokenizer,
    holds_adapter,
    refuse_adapter,
    refuse_both,
)
from smaug_eval.models.configuration import CONFIG_FILE, read_config
from smaug_eval.models.hub_checkpoint import (
    INDEX,
    TOKENIZER_FILES,
    WEIGHTS,
    check_adapter_listing,
    check_listing,
    check_tokenizer,
    describe_instead,
    fetch_adapter,
    fetch_config,
    fetch_model,
    is_adapter,
    is_foreign,
    read_adapter_config,
    refuse_files,
    wrong_names,
)
from smaug_eval.models.kinds import check_kind
from smaug_eval.models.quantised import Use, check_quantisation, quantisation
from smaug_eval.models.remote_code import CODE_PATTERN, check_own_code

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


TOKENIZER_PATTERNS = (
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*"),
    *("spiece.model", "sentencepiece.bpe.model", "tekken.json"),
)
"""The files of a tokenizer, for transformers and for other programs."""
CARRIED_PATTERNS = (
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    *("generation_config.json", "LICENSE*", "NOTICE*", "USE_POLICY*"),
)
"""What else belongs to a model that was trained from a checkpoint."""

SERVED = "api:"
"""Begins the name of a model that a server runs: ``api:NAME``, by the name that it has there."""
_NEEDS_BOS = "gemma"
SCORING_USES = (Use.TORCH, Use.HF, Use.VLLM, Use.LM_EVAL_VLLM)
"""Uses that take an adapter beside its base; everything else takes whole weights."""


@dataclass(frozen=True)
class Checkpoint:
    """Describe a checkpoint on this machine.

    Attributes:
        source: The name the user gave.
        path: The folder that holds it.
        revision: The Hub commit it came from, if it did.
        sha256: One hash over weights, configuration and tokenizer, and over its code where that may run.
        trust_remote_code: Whether Python code that came with it may run.
        adapter: Folder of a PEFT adapter to be put beside the weights; None for none.
    """

    source: str
    path: Path
    revision: str | None
    sha256: str
    trust_remote_code: bool = False
    adapter: Path | None = None

    def with_adapter(self, folder: Path) -> Checkpoint:
        """Return the checkpoint with an adapter beside its weights; the hash is one over both.

        Raises:
            SmaugError: the folder is no PEFT adapter.
        """
        adapter_settings(folder)
        own = sha256_of_files(sorted(folder.glob("adapter_*")), folder)
        return replace(self, adapter=folder, sha256=sha256_of_text(f"{self.sha256} {own}"))

    @property
    def tokenizer(self) -> Path:
        """Return the folder of its tokenizer and chat template: the adapter's where that has others than its base."""
        own = self.adapter is not None and has_own_tokenizer(self.adapter, self.path)
        return self.adapter if own and self.adapter is not None else self.path

    @property
    def sha256_with_tokenizer(self) -> str:
        """Return the hash, over the tokenizer and chat template that its adapter brings, too, where there are such."""
        folder = self.tokenizer
        if folder == self.path:
            return self.sha256
        files = sorted(file for pattern in TOKENIZER_PATTERNS for file in folder.glob(pattern) if file.is_file())
        return sha256_of_text(f"{self.sha256} {sha256_of_files(files, folder)}")

    @property
    def is_served(self) -> bool:
        """Return whether a server runs it, so that there is neither a folder nor a configuration here."""
        return served_name(self.source) is not None

    @property
    def hub_id(self) -> str | None:
        """Return its name on the Hub; None where it did not come from there."""
        return None if self.revision is None else self.source

    @property
    def dtype(self) -> str:
        """Return the precision the weights were saved in, as the configuration states it; float32 where it does not."""
        config = read_config(self.path)
        return str(config.get("dtype") or config.get("torch_dtype") or "float32")

    def describe(self) -> dict[str, Any]:
        """Return the checkpoint as manifest entries, with its facts from the configuration."""
        if self.is_served:
            facts: dict[str, Any] = {"dtype": "unknown", "architecture": "served", "weights_bytes": 0}
            return {"source": self.source, "path": self.source, "revision": None, "sha256": self.sha256, **facts}
        config = read_config(self.path)
        architectures = config.get("architectures")
        return {
            "source": self.source,
            "path": str(self.path),
            "revision": self.revision,
            "sha256": self.sha256,
            "dtype": self.dtype,
            "architecture": str(architectures[0]) if isinstance(architectures, list) and architectures else "unknown",
            "weights_bytes": sum(
                file.stat().st_size for file in checkpoint_files(self.path) if file.suffix == ".safetensors"
            ),
            **({"quantised": stored.name} if (stored := quantisation(config)) is not None else {}),
            **({"trust_remote_code": True} if self.trust_remote_code else {}),
            **({"adapter": str(self.adapter)} if self.adapter is not None else {}),
        }


def locate(
    name: str,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    uses: Collection[Use] = (),
    beside: bool | None = None,
) -> Checkpoint:
    """Find a model by name and make sure it is a complete safetensors checkpoint.

    Args:
        name: ``embedded:...``, a folder, or a Hub id (``organisation/model``), also with a revision
            (``organisation/model@revision``), or ``api:NAME`` of a served model. A PEFT adapter is put beside the base
            that it names where all uses can.
        revision: Branch, tag or commit on the Hub.
        trust_remote_code: Whether Python code that comes with it may run.
        uses: What it is to be used for. Of a model on the Hub the configuration alone is fetched to find out whether it
            can be.
        beside: Whether it may be an adapter; if None, where there are uses and all of them take one.

    Raises:
        SmaugError: there is no such model, it cannot be fetched, a needed file is missing or damaged, its weights are
            pickled or stored in a way that a use cannot take, or it needs code of its own that is not trusted.
    """
    if served_name(name) is not None:
        return _served(name, revision, uses)
    if beside is None:
        beside = bool(uses) and all(use in SCORING_USES for use in uses)
    return _located(name, revision, trust_remote_code, uses, beside=beside)


def _located(name: str, revision: str | None, trusted: bool, uses: Collection[Use], *, beside: bool) -> Checkpoint:
    """As :func:`locate`; ``beside`` says whether it may be an adapter, which is put beside its base."""
    name, revision = with_revision(name, revision)
    uses = [use for use in uses if use is not Use.API]  # the weights are the server's own
    folder = _folder_of(name, revision)
    if folder is None:
        return _from_hub(name, revision, trusted, uses, beside=beside)
    if beside and holds_adapter(folder):
        if (base := _base_to_use(adapter_settings(folder), is_local=True)) is not None:
            return _beside(name, folder, base, trusted, uses)
        with _to_be_named(name):
            refuse_adapter(name, folder)
    return _local(name, folder, trusted=trusted, uses=uses)


def served_name(name: str) -> str | None:
    """Return what a served model is called by its server; None for a model that is not named ``api:NAME``."""
    return name.removeprefix(SERVED) or None if name.startswith(SERVED) else None


def _served(name: str, revision: str | None, uses: Collection[Use]) -> Checkpoint:
    if revision is not None:
        raise SmaugError(f"model.revision is {revision!r}, but {name} is served", fix="remove model.revision")
    if other := [use.value for use in uses if use is not Use.API]:
        raise SmaugError(
            f"model {name!r} is served, and {other[0]} needs its weights",
            fix="set engine: api with engine_args: {base_url: http://HOST:PORT/v1}, or give the checkpoint itself",
        )
    return Checkpoint(name, Path(name), None, sha256_of_text(name))


def check_uses(name: str, uses: Collection[Use], *, revision: str | None = None) -> None:
    """Find out from a model's configuration alone whether it can be used, before anything else is fetched.

    A folder that is not there, or is no checkpoint, is left to :func:`locate`, which says what is wrong.

    Args:
        name: As of :func:`locate`.
        uses: What it is to be used for.
        revision: As of :func:`locate`.

    Raises:
        SmaugError: it cannot be used, or there is no such model on the Hub.
    """
    name, revision = with_revision(name, revision)
    try:
        folder = _folder_of(name, revision)
    except SmaugError:
        return
    if folder is None:
        commit = resolve_commit("model", name, revision)
        if (files := list_files("model", name, commit)) is not None and not is_adapter(files):
            check_listing(name, files, names_matter=_names_matter(uses))
        config = fetch_config(name, commit)
    else:
        config = read_config(folder) if (folder / CONFIG_FILE).is_file() else None
    if config is not None:
        check_config(name, config, uses)


def _folder_of(name: str, revision: str | None) -> Path | None:
    """The folder that a name means; None for a model on the Hub."""
    if name.startswith(PREFIX):
        return embedded_path(name)
    path = given_path(name)
    if is_there(path):
        if revision is not None:
            raise SmaugError(
                f"model.revision is {revision!r}, but {name} is a local folder", fix="remove model.revision"
            )
        return path
    if path.is_absolute() or name.startswith(".") or name.count("/") != 1:
        raise SmaugError(
            f"model {name!r}: no such folder",
            fix="give a folder with config.json and *.safetensors, or a Hub id (organisation/model)",
        )
    return None


def checkpoint_files(path: Path, *, with_code: bool = False) -> list[Path]:
    """Return the files of a checkpoint that decide its numbers, sorted; its Python code only where it may run.

    Weights that transformers does not read (``consolidated*``) are none of them where there are others.
    """
    patterns = (*CHECKPOINT_PATTERNS, *([CODE_PATTERN] if with_code else ()))
    files = {file for pattern in patterns for file in path.glob(pattern) if file.is_file()}
    if any((path / name).is_file() for name in (WEIGHTS, INDEX)):
        files = {file for file in files if not is_foreign(file.name)}
    return sorted(files)


def bos_warning(checkpoint: Checkpoint) -> str:
    """Return a warning for a model that is known to answer badly without a BOS token at the start of a prompt."""
    if checkpoint.is_served:
        return ""
    kind = str(read_config(checkpoint.path).get("model_type", ""))
    if not kind.startswith(_NEEDS_BOS):
        return ""
    return (
        f"{checkpoint.source} ({kind}) was trained with a BOS token before every text; the leaderboard's prompts have "
        "none, and neither have these: expect scores lower by tens of points"
    )


def check_config(source: str, config: Mapping[str, Any], uses: Collection[Use]) -> None:
    """Make sure that a configuration describes a model that some uses can take; its weights are not looked at.

    Raises:
        SmaugError: it is of another kind, or its weights are stored in a way that a use cannot take.
    """
    check_quantisation(source, config, uses)
    check_kind(source, config, uses)


def _local(
    source: str,
    path: Path,
    revision: str | None = None,
    *,
    trusted: bool = False,
    uses: Collection[Use] = (),
) -> Checkpoint:
    what = f"model {source!r}"
    if path.is_file():
        if (instead := describe_instead(what, [path.name], folder=path.parent)) is not None:
            raise instead
        refuse_unreadable(source, "model")
    if not path.is_dir():
        raise SmaugError(f"{what}: {path} is not a folder", fix="give the folder that holds config.json")
    refuse_adapter(source, path)
    names = [file.name for file in path.iterdir()]
    whole = (path / CONFIG_FILE).is_file() and any(path.glob("*.safetensors"))
    if not whole and (instead := describe_instead(what, names, folder=path)) is not None:
        raise instead
    if not (path / CONFIG_FILE).is_file():
        raise SmaugError(f"{what}: {path} has no config.json", fix="give the folder of a checkpoint")
    if not any(path.glob("*.safetensors")):
        raise SmaugError(f"{what}: {path} has no *.safetensors", fix="fetch the weights again")
    refuse_both(source, path)
    if uses:
        check_config(source, read_config(path), uses)
        _check_names(source, path, uses)
    check_own_code(source, path, trusted=trusted)
    _check_shards(source, path)
    _check_whole(source, path)
    if not any((path / file).is_file() for file in TOKENIZER_FILES):
        raise SmaugError(
            f"model {source!r}: {path} has no tokenizer", fix="put the base model's tokenizer files beside the weights"
        )
    digest = sha256_of_files(checkpoint_files(path, with_code=trusted), path)
    return Checkpoint(source, path.resolve(), revision, digest, trusted)


def _check_names(source: str, path: Path, uses: Collection[Use]) -> None:
    """Refuse weights under names that transformers does not read, such as those of a variant."""
    if any((path / name).is_file() for name in (WEIGHTS, INDEX)) or not _names_matter(uses):
        return
    raise wrong_names(source, [file.name for file in path.glob("*.safetensors")])


def _names_matter(uses: Collection[Use]) -> bool:
    """Whether transformers is to read the weights; vLLM takes any names."""
    return any(not use.is_vllm for use in uses)


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


def _from_hub(name: str, revision: str | None, trusted: bool, uses: Collection[Use], *, beside: bool) -> Checkpoint:
    commit = resolve_commit("model", name, revision)
    if (files := list_files("model", name, commit)) is not None:
        if is_adapter(files):
            if beside:
                check_adapter_listing(name, files)
            return _adapter_from_hub(name, commit, trusted, uses, beside=beside)
        check_listing(name, files, names_matter=_names_matter(uses))
    if (config := fetch_config(name, commit)) is not None:
        check_config(name, config, uses)
    if files is not None:
        check_tokenizer(name, files)
    patterns = [*CHECKPOINT_PATTERNS, *TOKENIZER_PATTERNS, *CARRIED_PATTERNS]
    path = fetch_model(name, commit, patterns, revision=revision, code=CODE_PATTERN if trusted else None)
    refuse_adapter(name, path)
    for file, lacks in ((CONFIG_FILE, f"has no {CONFIG_FILE}"), ("*.safetensors", "has no *.safetensors")):
        if not any(path.glob(file)):
            refuse_files(name, commit, lacks)
    return _local(name, path, commit, trusted=trusted, uses=uses)


def _adapter_from_hub(name: str, commit: str, trusted: bool, uses: Collection[Use], *, beside: bool) -> Checkpoint:
    """A PEFT adapter on the Hub beside the base that it names."""
    base = _base_to_use(read_adapter_config(name, commit), is_local=False) if beside else None
    if base is None:
        with _to_be_named(name) if beside else nullcontext():
            refuse_files(name, commit, f"has no {CONFIG_FILE}")
    return _beside(name, commit, base, trusted, uses)


@contextmanager
def _to_be_named(adapter: str) -> Iterator[None]:
    """Add to the error about an adapter whose base is not known or not usable that the user may name one."""
    try:
        yield
    except SmaugError as error:
        named = f"name its base: model: {{path: BASE, adapter: {adapter}}}"
        raise SmaugError(error.message, fix=f"{error.fix}; or {named}" if error.fix else named) from error


def _base_to_use(settings: Mapping[str, Any], *, is_local: bool) -> tuple[str, str | None] | None:
    """The base that an adapter is put beside, and its revision; None where it names none that could be here.

    Args:
        settings: Of the adapter.
        is_local: Whether it lies on this machine; only then may it name a folder.
    """
    name, revision = base_of(settings)
    if name is None:
        return None
    if name.startswith(PREFIX) or (is_local and is_there(given_path(name))):
        return name, None
    is_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    return (name, revision) if is_hub_id else None  # else it is a path of its author's machine


def _beside(
    name: str, adapter: Path | str, base: tuple[str, str | None], trusted: bool, uses: Collection[Use]
) -> Checkpoint:
    """An adapter, local or of a commit on the Hub, beside its base.

    Raises:
        SmaugError: one of the two cannot be used, or the base is an adapter, too.
    """
    try:
        with _to_be_named(name):
            found = _located(*base, trusted, uses, beside=False)
    except SmaugError as error:
        raise SmaugError(
            f"model {name!r} is a PEFT adapter, and its base cannot be used: {error.message}", fix=error.fix
        ) from error
    if isinstance(adapter, Path):
        return replace(found.with_adapter(adapter.resolve()), source=name, revision=None)
    return replace(found.with_adapter(locate_adapter(name, revision=adapter)), source=name, revision=adapter)


def locate_adapter(name: str, *, revision: str | None = None) -> Path:
    """Return the folder of a PEFT adapter: a local one, or one on the Hub, which is fetched.

    Args:
        name: A folder, or a Hub id, also with a revision (``organisation/adapter@revision``).
        revision: Branch, tag or commit on the Hub.

    Raises:
        SmaugError: there is no such adapter, it cannot be fetched, or its weights are pickled.
    """
    name, revision = with_revision(name, revision)
    folder = _folder_of(name, revision)
    if folder is not None:
        return folder
    commit = resolve_commit("model", name, revision)
    return fetch_adapter(name, commit, TOKENIZER_PATTERNS, revision=revision)
