"""Define how a served model is reached: the ``engine_args`` of ``engine: api``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, ValidationError

from smaug_eval.common.errors import SmaugError
from smaug_eval.common.served import limits
from smaug_eval.common.served.budget import Budget
from smaug_eval.common.served.endpoint import DEFAULT_KEY_ENV, Endpoint, check_address, check_endpoint
from smaug_eval.common.settings import Strict
from smaug_eval.common.suggest import nearest


class ApiSettings(Strict):
    """Configure a served model. The key comes from the environment alone."""

    base_url: str = Field(description="Address up to and including /v1.")
    model: str | None = Field(None, description="The model's name there; that of model.path (api:NAME) if empty.")
    tokenizer: str | None = Field(
        None,
        description="Folder or Hub id of its tokenizer; with it tokens are sent, without it text, which the server "
        "tokenises, a BOS included where it adds one.",
    )
    chat: bool | None = Field(
        None,
        description="Generate through chat completions, not plain ones; if empty, MT-Bench does and tasks do not.",
    )
    key_env: str = Field(DEFAULT_KEY_ENV, description="Environment variable that holds the key.")
    concurrency: int = limits.CONCURRENCY
    requests_per_minute: float | None = limits.REQUESTS_PER_MINUTE
    timeout: float = limits.TIMEOUT
    attempts: int = limits.ATTEMPTS
    backoff: float = limits.BACKOFF
    longest_wait: NonNegativeFloat = limits.longest_wait("server")
    max_calls: NonNegativeInt | None = limits.MAX_CALLS
    max_cost: NonNegativeFloat | None = limits.MAX_COST
    price_in: float | None = limits.price_in("server")
    price_out: float | None = limits.PRICE_OUT
    max_length: PositiveInt | None = Field(
        None, description="Tokens of the model's context; what the server says if empty, else 2048."
    )
    max_gen_toks: PositiveInt = Field(
        256, description="Maximum number of tokens of a generation where the task names none."
    )
    headers: dict[str, str] = Field(default_factory=dict, description="Further headers; $NAME is a variable's value.")
    extra_body: dict[str, Any] = Field(default_factory=dict, description="Further keys of each request.")
    api_version: str | None = Field(None, description="Azure's API version.")

    def endpoint(self, name: str) -> Endpoint:
        """Return where the model is, with its name there."""
        same = ("base_url", "key_env", "concurrency", "requests_per_minute", "timeout", "attempts", "backoff")
        more = ("longest_wait", "headers", "api_version")
        told = {key: getattr(self, key) for key in (*same, *more)}
        return Endpoint(model=name, role="model", **told)

    def budget(self) -> Budget:
        """Return the budget of all requests.

        Raises:
            SmaugError: there is a limit to the cost, but no prices.
        """
        if self.max_cost is not None and None in (self.price_in, self.price_out):
            raise SmaugError(
                "engine_args.max_cost needs the model's prices", fix="set engine_args.price_in and price_out"
            )
        return limits.budget_of(self)


def api_settings(engine_args: Mapping[str, Any]) -> ApiSettings:
    """Read the settings of a served model that is to be asked.

    Args:
        engine_args: Of the recipe.

    Raises:
        SmaugError: as of :func:`read_api_settings`, or the key's variable is not set where it is needed.
    """
    settings = read_api_settings(engine_args)
    check_endpoint(settings.endpoint(settings.model or "model"))
    return settings


def read_api_settings(engine_args: Mapping[str, Any]) -> ApiSettings:
    """Read the settings of a served model, whether or not its key is there.

    Args:
        engine_args: Of the recipe.

    Raises:
        SmaugError: a key is unknown or its value is none, or the address cannot be one or holds a key.
    """
    for key in ("api_key", "key", "token"):
        if key in engine_args:
            raise SmaugError(
                f"engine_args.{key}: a key in a recipe would be recorded",
                fix=f"put it into the environment variable {DEFAULT_KEY_ENV}, or into another that key_env names",
            )
    try:
        settings = ApiSettings.model_validate(dict(engine_args))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        hint = nearest(place, ApiSettings.model_fields) if first["type"] == "extra_forbidden" else ""
        what = "no such setting of engine api" if hint or first["type"] == "extra_forbidden" else first["msg"]
        raise SmaugError(
            f"engine_args.{place}: {what}{hint}", fix="see docs/served.md for what engine: api takes"
        ) from error
    check_address(settings.base_url, settings.key_env, "model")
    settings.budget()
    return settings
