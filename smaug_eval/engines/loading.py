"""Load the weights of lm-eval's ``hf`` model with our own loader: none of them is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lm_eval.models.huggingface import HFLM

from smaug_eval.common.errors import SmaugError
from smaug_eval.engines.shared import without_seeds
from smaug_eval.models.adapter_effect import check_effect, probe_tokens, probed_log_probs
from smaug_eval.models.adapters import attach
from smaug_eval.models.loading import load_pretrained
from smaug_eval.models.quantised import Use


class CheckedLoading(HFLM):
    """Load the checkpoint of lm-eval's ``hf`` model with :func:`smaug_eval.models.loading.load_pretrained`.

    Attributes:
        use: What the engine is called in errors.
    """

    use = Use.HF
    AUTO_MODEL_CLASS: Any
    _model: Any

    def __init__(self, *args: Any, adapter: str | Path | None = None, **kwargs: Any) -> None:
        """Load a model.

        Args:
            *args: As of lm-eval's ``HFLM``.
            adapter: Folder of a PEFT adapter, which is put beside the weights; None for none.
            **kwargs: As of lm-eval's ``HFLM``.

        Raises:
            SmaugError: the checkpoint cannot be loaded, or lacks weights; the adapter does not fit, or
                has no effect.
        """
        self._adapter = None if adapter is None else Path(adapter)
        super().__init__(*args, **kwargs)

    def _create_model(self, *args: Any, **kwargs: Any) -> None:
        auto_class = self.AUTO_MODEL_CLASS
        self.AUTO_MODEL_CLASS = _Checked(auto_class, self.use)
        try:
            super()._create_model(*args, **kwargs)
        finally:
            self.AUTO_MODEL_CLASS = auto_class
        if self._adapter is not None:
            # The model itself with the adapter's layers in it, as everything that asks it knows its class.
            tokens = probe_tokens(self._model.get_input_embeddings().weight.shape[0], self._adapter)
            before, dtype = probed_log_probs(self._model, tokens), str(self._model.dtype).removeprefix("torch.")
            self._model = attach(self._model, self._adapter).get_base_model().eval()
            check_effect(self._adapter, before, probed_log_probs(self._model, tokens), dtype=dtype)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> list[str]:
        """Compute lm-eval's ``generate_until``; a seed is given to torch, as transformers takes none.

        Raises:
            SmaugError: transformers does not take a setting.
        """
        try:
            found: list[str] = super().generate_until(without_seeds(requests), disable_tqdm=disable_tqdm)
        except (ValueError, TypeError) as error:
            named = sorted({name for request in requests for name in request.args[1]})
            raise SmaugError(
                f"transformers cannot generate with these settings ({', '.join(named)}): {error}",
                fix="correct gen_kwargs of the evaluation, or generation_kwargs in the task's YAML",
            ) from error
        return found


class _Checked:
    """Stands in the place of one of transformers' auto classes while lm-eval loads."""

    def __init__(self, auto_class: Any, use: Use) -> None:
        self._auto_class, self._use = auto_class, use

    def from_pretrained(self, name: str, **kwargs: Any) -> Any:
        """Load a checkpoint."""
        return load_pretrained(name, self._use, auto_class=self._auto_class, **kwargs)
