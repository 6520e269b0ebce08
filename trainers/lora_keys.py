"""Define the keys of a LoRA adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from smaug_eval.common.settings import ADDED, Strict

if TYPE_CHECKING:
    from typing_extensions import Self


class LoraConfig(Strict):
    """Train a low-rank adapter instead of all weights."""

    r: PositiveInt = Field(16, description="Rank of the adapter matrices.")
    alpha: PositiveFloat = Field(32.0, description="Scale of the adapter; its output is multiplied by alpha / r.")
    dropout: float = Field(
        0.0, ge=0.0, lt=1.0, description="Dropout on the adapter's input while training; the base model has none."
    )
    target_modules: Literal["all-linear"] | Annotated[list[str], Field(min_length=1)] = Field(
        "all-linear",
        description="Modules to adapt: all-linear (all but the output head and towers for images and sound), or a list "
        "of module names. Experts that are fused parameters are no linear layers; what is adapted is printed.",
    )
    quantize: Literal["nf4", "int8"] | None = Field(
        None,
        description="Keep the frozen base in 4 (nf4: QLoRA) or 8 bits (needs smaug-eval[qlora]); the reference is the "
        "quantised base. Empty: in the model's dtype.",
    )
    rslora: bool = Field(
        False,
        description="Scale the adapter's output by alpha / sqrt(r) instead (rank-stabilised LoRA, arXiv 2312.03732).",
        json_schema_extra=ADDED,
    )
    dora: bool = Field(
        False,
        description="Learn the magnitude of each weight vector apart from its direction (DoRA, arXiv 2402.09353).",
        json_schema_extra=ADDED,
    )
    exclude_modules: list[str] | None = Field(
        None, min_length=1, description="Names of modules that are not adapted.", json_schema_extra=ADDED
    )
    target_parameters: list[str] | None = Field(
        None,
        min_length=1,
        description="Parameters to adapt beside modules: those of fused experts, such as mlp.experts.gate_up_proj.",
        json_schema_extra=ADDED,
    )
    modules_to_save: list[str] | None = Field(
        None,
        min_length=1,
        description="Names of modules that are trained whole and saved with the adapter, such as lm_head.",
        json_schema_extra=ADDED,
    )
    trainable_tokens: list[NonNegativeInt | str] | None = Field(
        None,
        min_length=1,
        description="Tokens, by id or text, whose rows of the embedding are trained as well.",
        json_schema_extra=ADDED,
    )

    @model_validator(mode="after")
    def _parameters_without_dropout(self) -> Self:
        if self.target_parameters is not None and self.dropout:
            raise ValueError("target_parameters have no inputs of their own to drop: set dropout: 0")
        return self
