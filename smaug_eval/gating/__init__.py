"""Decide for a pipeline whether a model may pass: requirements of a policy against the report's own statistics."""

from smaug_eval.gating.gate import Check, GateResult, Ruling, gate_run

__all__ = ["Check", "GateResult", "Ruling", "gate_run"]
