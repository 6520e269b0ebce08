"""Read a model's size from its configuration, without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smaug_eval.common.embedded import PREFIX, embedded_path, recipes_folder
from smaug_eval.common.errors import SmaugError
from smaug_eval.common.files import read_json
from smaug_eval.common.hub_cache import cached_reference, is_commit, snapshot_folder
from smaug_eval.common.hub_commits import exactly, fetch_files, list_files, resolve_commit
from smaug_eval.common.names import with_revision
from smaug_eval.models.adapter_files import ADAPTER_CONFIG, holds_adapter
from smaug_eval.models.configuration import CONFIG_FILE
from smaug_eval.models.hub_checkpoint import check_listing, fetch_config, is_adapter
from smaug_eval.models.kinds import check_kind
from smaug_eval.models.quantised import SECTIONS, Quantisation, Use, quantisation

CONFIGS = "configs"
"""Folder beside the recipes with the configurations of their bases."""
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, eq=False)
class ModelShape:
    """Hold the sizes of a causal language model of equal decoder layers.

    Attributes:
        name: The model, as the recipe names it.
        note: Where the configuration is from.
        config: The configuration, of transformers.
        dtype: Type of the weights, as the configuration states it; float32 where it does not.
        parameters: All weights; tied ones count once.
        matrices: Inputs and outputs of each weight matrix that every token goes through, by name of its module; the
            output head is not among them.
        embeddings: Weights that are looked up rather than multiplied: of tokens and positions.
        head: Weights of the output head, which may be the token embedding's.
        stored: How the weights are stored where they are quantised; None for numbers of ``dtype``.
    """

    name: str
    note: str
    config: Any
    dtype: str
    parameters: int
    matrices: Mapping[str, tuple[int, int]]
    embeddings: int
    head: int
    stored: Quantisation | None = None

    @property
    def matrix_weights(self) -> int:
        """Return the weights of all of ``matrices``."""
        return sum(inputs * outputs for inputs, outputs in self.matrices.values())

    @property
    def layers(self) -> int:
        """Return the number of decoder layers."""
        return int(self.config.num_hidden_layers)

    @property
    def heads(self) -> int:
        """Return the attention heads."""
        return int(self.config.num_attention_heads)

    @property
    def head_size(self) -> int:
        """Return the width of an attention head."""
        return int(getattr(self.config, "head_dim", None) or self.config.hidden_size // self.heads)

    @property
    def key_heads(self) -> int:
        """Return the number of heads of keys and values."""
        return int(getattr(self.config, "num_key_value_heads", None) or self.heads)

    @property
    def vocabulary(self) -> int:
        """Return the number of tokens that the head distinguishes."""
        return int(self.config.vocab_size)

    @property
    def context(self) -> int | None:
        """Return most tokens of a text, where the configuration states it."""
        return getattr(self.config, "max_position_embeddings", None)

    @property
    def layer_parameters(self) -> float:
        """Return the weights of one layer, norms included."""
        tied = bool(getattr(self.config, "tie_word_embeddings", False))
        return (self.parameters - self.embeddings - (0 if tied else self.head)) / self.layers

    def adapter_weights(self, r: int, targets: str | list[str]) -> int:
        """Return the weights of a LoRA adapter: ``r x (inputs + outputs)`` for each adapted matrix.

        Raises:
            SmaugError: the model has none of the target modules.
        """
        chosen = [
            size
            for name, size in self.matrices.items()
            if targets == "all-linear" or name.rsplit(".", 1)[-1] in targets or name in targets
        ]
        if not chosen:
            raise SmaugError(f"lora.target_modules {targets}: {self.name} has none of them", fix="use all-linear")
        return sum(r * (inputs + outputs) for inputs, outputs in chosen)

    def key_value_bytes(self, dtype: str) -> int:
        """Return the bytes of the keys and values of one token."""
        return 2 * self.layers * self.key_heads * self.head_size * bytes_of(dtype)


def bytes_of(dtype: str) -> int:
    """Return the bytes of one number.

    Raises:
        SmaugError: the type is unknown.
    """
    if dtype not in _BYTES:
        raise SmaugError(f"no such dtype: {dtype!r}", fix=f"choose one of {', '.join(_BYTES)}")
    return _BYTES[dtype]


def model_shape(name: str, revision: str | None = None) -> ModelShape:
    """Return the sizes of a model, from its configuration alone.

    Args:
        name: A folder, ``embedded:demo-model``, or a Hub id. Of a Hub id the configuration is taken from the local
            cache, else from ``recipes/configs``, else from the Hub.
        revision: Branch, tag or commit on the Hub.

    Raises:
        SmaugError: there is no configuration, or it is none of a dense causal language model.
    """
    fields, note = _read_config(name, revision)
    return shape_of(fields, name, note)


def shape_of(fields: Mapping[str, Any], name: str, note: str) -> ModelShape:
    """Return the sizes that a configuration's fields describe; see :func:`model_shape`."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from smaug_eval.models.loading import LOADING_ERRORS

    settings = {key: value for key, value in fields.items() if key != "model_type" and not key.startswith("_")}
    dtype = str(settings.pop("dtype", None) or settings.pop("torch_dtype", None) or "float32")
    settings.pop("torch_dtype", None)
    stored = quantisation(fields)
    for section in SECTIONS:
        settings.pop(section, None)
    check_kind(name, fields, [Use.TORCH])
    try:
        config = AutoConfig.for_model(fields["model_type"], **settings)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except LOADING_ERRORS as error:
        why = " ".join(str(error).split())[:300]
        raise SmaugError(
            f"the configuration of {name} ({note}) describes no causal language model: {why}",
            fix="give a model whose config.json transformers knows, without code of its own",
        ) from error
    if getattr(config, "num_local_experts", None) or getattr(config, "num_experts", None):
        raise SmaugError(f"{name} is a mixture of experts, which plan does not know", fix="plan a dense model")
    head = model.get_output_embeddings()
    embeddings = [module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    matrices = {
        module_name: (int(weight.shape[-1]), int(weight.shape[0]))
        for module_name, module in model.named_modules()
        if (weight := getattr(module, "weight", None)) is not None
        and weight.ndim == 2
        and module is not head
        and not isinstance(module, torch.nn.Embedding)
    }
    return ModelShape(
        name=name,
        note=note,
        config=config,
        dtype=dtype,
        parameters=sum(weight.numel() for weight in model.parameters()),
        matrices=matrices,
        embeddings=sum(weight.numel() for weight in embeddings),
        head=head.weight.numel(),
        stored=stored,
    )


def _read_config(name: str, revision: str | None) -> tuple[Mapping[str, Any], str]:
    path = embedded_path(name) if name.startswith(PREFIX) else Path(name).expanduser()
    if path.is_dir():
        if holds_adapter(path):
            return _read_base_config(path)
        return _read_file(path / "config.json"), str(path / "config.json")
    if path.is_absolute() or name.startswith(".") or with_revision(name)[0].count("/") != 1:
        raise SmaugError(
            f"model {name!r}: no such folder", fix="give a folder with config.json, or a Hub id (organisation/model)"
        )
    name, revision = with_revision(name, revision)
    if (cached := _cached(name, revision)) is not None:
        return cached, f"config.json of {name} in the local Hub cache"
    committed = recipes_folder() / CONFIGS / f"{name.replace('/', '--')}.json"
    if committed.is_file() and revision is None:
        fields = _read_file(committed)
        return fields, f"recipes/{CONFIGS}/{committed.name}. {fields.get('_note', '')}".rstrip(". ")
    commit = resolve_commit("model", name, revision)
    if (files := list_files("model", name, commit)) is not None:
        if is_adapter(files):
            return _read_base_config(fetch_files("model", name, commit, [exactly(ADAPTER_CONFIG)], revision=revision))
        check_listing(name, files, names_matter=False)
    fields = fetch_config(name, commit) or {}
    return _checked(fields, f"config.json of {name}"), f"config.json of {name} on the Hub"


def _read_base_config(adapter: Path) -> tuple[Mapping[str, Any], str]:
    """The configuration of the base that an adapter names; the adapter adds next to nothing to its size."""
    settings = read_json(adapter / ADAPTER_CONFIG)
    base = settings.get("base_model_name_or_path")
    if not base:
        raise SmaugError(
            f"{adapter / ADAPTER_CONFIG} names no base model (base_model_name_or_path)",
            fix="plan the base itself: model: {path: BASE, adapter: ADAPTER}",
        )
    fields, note = _read_config(str(base), settings.get("revision"))
    return fields, f"{note}, the base of an adapter"


def _read_file(path: Path) -> Mapping[str, Any]:
    if not path.is_file():
        raise SmaugError(f"{path} does not exist", fix="give the folder that holds config.json")
    return _checked(read_json(path), str(path))


def _checked(fields: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(fields, dict) or "model_type" not in fields:
        raise SmaugError(f"{what} has no model_type", fix="give a config.json of transformers")
    return fields


def _cached(name: str, revision: str | None) -> Mapping[str, Any] | None:
    """The configuration of a model on the Hub that is here already."""
    commit = revision if is_commit(revision) else cached_reference("model", name, revision)
    path = snapshot_folder("model", name, str(commit)) / CONFIG_FILE
    return _read_file(path) if commit is not None and path.is_file() else None
