"""Hold what a plan says: of each stage, of each machine, and of the recipe."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class StagePlan(BaseModel):
    """Hold what one stage takes."""

    name: str = Field(description="The stage, as a run names it.")
    tokens: float = Field(description="Tokens that go through the model.")
    tokens_unshared: float = Field(description="The same without prefix sharing.")
    gpus: int = Field(description="GPUs that compute at a time.")
    hours: float = Field(description="Hours.")
    hours_unshared: float = Field(description="Hours without prefix sharing.")
    share: float = Field(0.0, description="Share of the run's hours.")
    steps: int | None = Field(None, description="Optimiser steps of a training.")
    memory: dict[str, float] = Field(description="Bytes on the fullest GPU by purpose, with the longest texts.")
    memory_total: float = Field(description="The most of them at a time.")
    fits: bool = Field(description="Whether that is within what may be filled.")
    problems: list[str] = Field(description="Why the stage cannot run.")
    changes: list[str] = Field(description="Changes of which each alone makes it fit.")


class RequestPlan(BaseModel):
    """Hold the requests to a served model in dialogues."""

    name: str = Field(description="The stage, as a run names it.")
    calls: int = Field(description="Requests, without those that are repeated.")
    read: int = Field(description="Tokens that the model reads, about.")
    written: int = Field(description="The most tokens that it writes.")
    cost: float | None = Field(description="The most that they cost; none without prices.")


class MachinePlan(BaseModel):
    """Hold the plan of a recipe on one machine."""

    machine: str = Field(description="The GPUs.")
    usable: float = Field(description="Bytes of each that may be filled.")
    stages: list[StagePlan] = Field(description="In the order of the run.")
    hours: float = Field(description="Hours of all stages.")
    hours_unshared: float = Field(description="Hours without prefix sharing.")
    fits: bool = Field(description="Whether every stage fits.")


class RecipePlan(BaseModel):
    """Hold the plans of a recipe on some machines."""

    recipe: str = Field(description="The recipe's name.")
    model: str = Field(description="Its base model.")
    model_source: str = Field(description="Where the model's configuration is from.")
    parameters: int = Field(description="The base's weights.")
    stored: str | None = Field(None, description="How they are stored, where that is quantised.")
    trained: dict[str, int] = Field(description="Weights that each training changes.")
    pairs: dict[str, dict[str, Any]] = Field(description="Number, mean lengths and source of each pair set trained on.")
    assumptions: list[str] = Field(description="What the figures rest on.")
    machines: list[MachinePlan] = Field(description="One plan for each machine.")
    requests: list[RequestPlan] = Field([], description="Requests to served models in dialogues.")
