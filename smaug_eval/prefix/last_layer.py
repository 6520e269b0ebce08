"""Compute the last decoder layer for nothing but the positions that predict a scored token."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


class RunsTwice(Exception):
    """Report that a module of the last layer runs more than once in a forward pass.

    What it leaves out in the first run is missing in the second one, as in a model whose layers share weights.
    """


class LastLayer:
    """Hold the modules of a decoder's last layer during one forward pass, in which each may run once.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        self._waiting = dict.fromkeys(layer.modules(), True)

    def runs(self, module: nn.Module) -> bool:
        """Check whether a module that begins to run belongs to the layer.

        Raises:
            RunsTwice: it belongs to it and has run before.
        """
        if module not in self._waiting:
            return False
        if not self._waiting[module]:
            raise RunsTwice(f"{type(module).__name__} of the last layer runs more than once")
        self._waiting[module] = False
        return True


def last_layer_of(core: Any) -> nn.Module | None:
    """Return a model's last decoder layer if it has an MLP of that name; None otherwise."""
    decoder = core.get_decoder()
    layers = getattr(decoder, "layers", None) or getattr(decoder, "h", None)
    return layers[-1] if layers and isinstance(getattr(layers[-1], "mlp", None), nn.Module) else None


@contextmanager
def mlp_at(layer: nn.Module, last: LastLayer, places: Tensor, shape: tuple[int, ...]) -> Iterator[None]:
    """Make a layer's MLP compute some positions of a row only, and zeros elsewhere, while the context lasts.

    Args:
        layer: The last decoder layer.
        last: The same, in this forward pass.
        places: The positions, ascending.
        shape: Of the row's token ids, ``(1, length)``; hidden states of another shape are computed whole.
    """
    mlp: Any = layer.mlp
    original: Callable[..., Any] = mlp.forward
    patched = vars(mlp).get("forward")  # somebody else's, to be put back

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        if hidden.shape[:2] != shape:
            return original(hidden, *args, **kwargs)
        last.runs(mlp)
        chosen = places.to(hidden.device)
        few = original(hidden[:, chosen], *args, **kwargs)
        output = few.new_zeros((*hidden.shape[:2], few.shape[-1]))  # of another type than hidden under autocast
        output[:, chosen] = few
        return output

    mlp.forward = forward
    try:
        yield
    finally:
        del mlp.forward
        if patched is not None:
            mlp.forward = patched
