"""Compute the load-balancing loss of a mixture of experts beside the loss of the pairs.

Source: Fedus et al., Switch Transformers, arXiv 2101.03961, Eq. 4 to 6, in the form of each model's own code in
transformers, which TRL adds as well.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from smaug_eval.common.errors import SmaugError
from smaug_eval.prefix.layout import Layout


class RouterLoss:
    """Collect what the routers of a model say in a forward pass, and computes their loss.

    Args:
        policy: The model, perhaps with an adapter.

    Raises:
        SmaugError: it is no mixture of experts that transformers knows a router loss of.
    """

    def __init__(self, policy: nn.Module) -> None:
        core: Any = policy.get_base_model() if isinstance(policy, PeftModel) else policy
        self._function: Callable[..., Tensor] | None = getattr(
            sys.modules[type(core).__module__], "load_balancing_loss_func", None
        )
        recorder = (getattr(core.get_decoder(), "_can_record_outputs", None) or {}).get("router_logits")
        recorder = recorder[0] if isinstance(recorder, list) else recorder
        kind, self._index = getattr(recorder, "target_class", None), getattr(recorder, "index", 0)
        self._routers = [module for module in core.modules() if kind is not None and isinstance(module, kind)]
        self._logits: list[Tensor] = []
        self._experts, self._chosen = (getattr(core, name, None) for name in ("num_experts", "num_experts_per_tok"))
        if self._function is None or not self._routers or self._experts is None:
            raise SmaugError(
                f"router_aux_loss_coef: {type(core).__name__} has no router whose loss transformers computes",
                fix="leave router_aux_loss_coef out",
            )

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Collect the routers' logits of the forward passes within, shape ``(tokens, experts)`` of each layer."""
        self._logits = []

        def record(module: nn.Module, arguments: Any, output: Any) -> None:
            logits = output[self._index] if isinstance(output, tuple) else output
            self._logits.append(logits.reshape(-1, logits.shape[-1]))

        hooks = [router.register_forward_hook(record) for router in self._routers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def loss(self, layout: Layout) -> Tensor:
        """Return the loss of what was collected last; padding is left out.

        Args:
            layout: The input of the forward pass.
        """
        if self._function is None:
            raise ValueError("the model has no router loss")
        logits = self._logits
        if not layout.spans and not layout.row_lengths:  # padded rows
            rows, width = layout.input_ids.shape
            row, place = layout.sources.cpu() // width, layout.sources.cpu() % width
            last = torch.zeros(rows, dtype=torch.long).scatter_reduce(0, row, place, "amax")
            real = (torch.arange(width)[None] <= last[:, None]).flatten()
            logits = [each[real.to(each.device)] for each in logits]
        return self._function(tuple(logits), self._experts, self._chosen)
