"""Request from a server how many tokens its model reads and writes together."""

from __future__ import annotations

import httpx

from smaug_eval.common.errors import Incomplete
from smaug_eval.common.redaction import redacted
from smaug_eval.common.served.endpoint import NO_KEY, Endpoint, address_of, check_endpoint, header_values


def told_length(endpoint: Endpoint) -> int | None:
    """Return the context's length as the server states it (vLLM's ``max_model_len``); None where it does not.

    Args:
        endpoint: Of the model.

    Raises:
        Incomplete: nothing listens at the address.
        SmaugError: see :func:`~smaug_eval.common.served.endpoint.check_endpoint`.
    """
    key = check_endpoint(endpoint)
    address = address_of(endpoint)
    headers = {**header_values(endpoint), **({} if key == NO_KEY else {"Authorization": f"Bearer {key}"})}
    try:
        with httpx.Client(trust_env=not endpoint.is_local, timeout=30) as client:
            listed = client.get(f"{address.url}/models", headers=headers, params=address.query).json()
        entries = [each for each in listed["data"] if each.get("id") == endpoint.model] or listed["data"]
        found = entries[0].get("max_model_len")
        return int(found) if found else None
    except httpx.ConnectError as error:
        raise Incomplete(
            f"the {endpoint.where_in_words} does not answer: {redacted(str(error))}",
            fix="see whether the server runs, and engine_args.base_url, then run again; what is done is kept",
        ) from error
    except (httpx.HTTPError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None  # many servers list no models
