"""Define the field's learning rates for preference training: defaults, and a note on rates far from them.

Sources: TRL 1.16's ``DPOConfig`` (1e-6), alignment-handbook's zephyr-7b-beta (full 5e-7, QLoRA 5e-6), SimPO's
llama-3-8b-instruct recipe (1e-6), LLaMA-Factory's llama3_lora_dpo.yaml (LoRA 5e-6).
"""

from __future__ import annotations

FULL, LORA = 1e-6, 5e-6
"""Defaults for a training of all weights, and for one of an adapter."""
USUAL_FULL, USUAL_LORA = (5e-7, 1e-6), (5e-6, 5e-6)
FAR = 10.0
"""Factor from which on a rate is noted."""
EXACT = 1e-9
"""Relative difference that arithmetic explains."""
_OTHER_RATES = ("sft",)
"""Losses that are trained at other rates."""


def default_rate(*, lora: bool) -> float:
    """Return the learning rate of a training that names none."""
    return LORA if lora else FULL


def rate_note(rate: float, loss: str, *, lora: bool) -> str | None:
    """Return a sentence on a learning rate more than tenfold off the field's; None for others."""
    low, high = USUAL_LORA if lora else USUAL_FULL
    if loss in _OTHER_RATES or low / FAR * (1 - EXACT) <= rate <= high * FAR * (1 + EXACT):
        return None
    what = "LoRA" if lora else "all weights"
    usual = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    shows = "repeated tokens and falling answers" if rate > high else "log-ratios that stay near 0"
    times = f"{rate / high:,.0f} times" if rate > high else f"1/{low / rate:,.0f} of"
    return (
        f"learning_rate {rate:g} is {times} what is usual for preference training of {what} ({usual}); a rate that is "
        f"too {'high' if rate > high else 'low'} shows in {shows}"
    )
