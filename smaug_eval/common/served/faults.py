"""Classify a judge's refusal: whether it passes, is about one prompt or about every call, and what fixes it.

Read from the status, the headers and the error object, in the forms that OpenAI, Azure, OpenRouter, Anthropic's and
Google's compatible endpoints, vLLM, llama.cpp, TGI, LiteLLM and FastAPI servers give it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from smaug_eval.common.served.waits import asked_wait

_PASSING = (408, 409, 425, 429)
_DIGITS = re.compile(r"[0-9a-f]{8,}|\d+", re.I)
_ALIKE = 160
_READ = 400  # of the words: what comes later may be the prompt


class Kind(Enum):
    """List what a refusal is about; the value names what fixes it."""

    PASSING = "run again; what is done is kept"
    KEY = "check the key in {key_env}, then run again; what is done is kept"
    ACCOUNT = "add to the account, then run again; what is done is kept"
    ADDRESS = "check the model's name (--judge-model) and the address (--judge-base-url)"
    SYSTEM = "take a judge that reads system messages; saying them as the user's text was refused, too"
    MAX_TOKENS = (
        "lower the longest judgment (--set-judge max_tokens={half_max_tokens}), or take a judge that writes more"
    )
    TOO_LONG = (
        "lower the longest judgment (--set-judge max_tokens={half_max_tokens}), or take a judge with more context"
    )
    FILTER = "take another judge or endpoint for these, or accept their share (--allow-missing 0.05)"
    THOUGHT = (
        "raise the longest judgment (--set-judge max_tokens={double_max_tokens}), or think less (reasoning_effort)"
    )
    REFUSED = "take another judge for these, or accept their share (--allow-missing 0.05)"
    REQUEST = "correct what the judge names, then run again; what is done is kept"
    NONSENSE = "check the address (--judge-base-url): this is no OpenAI-compatible endpoint; what is done is kept"

    @property
    def ends_all(self) -> bool:
        """Return whether no other call can fare better."""
        return self in (Kind.KEY, Kind.ACCOUNT, Kind.ADDRESS)

    @property
    def is_of_prompt(self) -> bool:
        """Return whether other prompts may well be answered."""
        return self in (Kind.TOO_LONG, Kind.FILTER, Kind.THOUGHT, Kind.REFUSED)


_WORDS = (
    (
        Kind.FILTER,
        r"content[ _-]?(?:filter|policy|management)|ResponsibleAI|moderation|flagged|safety (?:system|policy)",
        r"data_inspection_failed|prompt.{0,20}blocked|inappropriate content",
    ),
    (
        Kind.ACCOUNT,
        r"insufficient[ _](?:quota|credit|balance|funds)|exceeded your current quota|billing|credit balance",
        r"payment required|requires more credits|arrears|arrearage",
    ),
    (
        Kind.MAX_TOKENS,
        r"max_(?:completion_)?tokens\W.{0,60}?(?:too large|too high|exceeds?|must be (?:less|at most|<)|range|at most)",
        r"max_(?:completion_)?tokens\W.{0,60}?(?:less than or equal|greater than)",
        r"(?:at most|maximum of) \d+ (?:completion|output) tokens",
    ),
    (
        Kind.TOO_LONG,
        r"context[ _-]?(?:length|window|size)|too many (?:input )?tokens|request too large|reduce the length",
        r"(?:prompt|input|request|payload|body)(?: entity)?(?: is| was)? too (?:long|large)|string_above_max",
    ),
    (
        Kind.SYSTEM,
        r"system (?:role|message|prompt|instruction)s?.{0,30}(?:not |un)support|does not support 'system'",
        r"(?:not |n[o']t )support.{0,40}system (?:role|message|prompt|instruction)",
        r"developer instruction is not enabled|only user and assistant roles|conversation roles must alternate",
    ),
    (
        Kind.KEY,
        r"(?:api|access)[ _-]?key.{0,40}(?:invalid|not valid|incorrect|missing|expired|not provided|is required)",
        r"(?:invalid|incorrect|missing|expired).{0,40}(?:api|access)[ _-]?key|invalid_api_key|unauthorized",
    ),
    (
        Kind.ADDRESS,
        r"model_not_found|deployment(?:_| )?not(?:_| )?found|(?:invalid|unknown|no such) model|unsupported model",
        r"(?:model|deployment)\b.{0,80}(?:does not exist|not found|is not (?:a valid|supported|available)|not exist)",
        r"not a valid model",
    ),
)
_PATTERNS = tuple((kind, re.compile("|".join(patterns), re.I | re.S)) for kind, *patterns in _WORDS)


_ABOUT = (
    r"(?:(?:unsupported|unknown|unrecogni[sz]ed|unexpected|extra|invalid|not support(?:ed|s)?|not permitted|deprecated)"
    r"(?: the| request| keyword| body)?(?: value| parameter| argument| field| input)?s?(?: supplied)?(?: for)?:? ?\[?"
    r"['\"`]?{0}\b"
    r"|['\"`]?\b{0}['\"`]? (?:(?:parameter |value )?(?:is|was|does|can|may|must|should)(?: \w+){{0,2}}?"
    r" (?:not|unsupported|deprecated|only|be)\b|cannot\b|can't\b|isn't\b|doesn't\b))"
)


@dataclass(frozen=True)
class JudgeProblem:
    """Describe a response that is no answer.

    Attributes:
        status: Of the response, or the code in its body.
        message: The judge's words, with the status before them.
        kind: What it is about.
        code: The error's code or type; empty where it has none.
        params: The parameters that it names; empty where it names none.
        wait: Seconds that it asks to wait; None where it does not say.
    """

    status: int
    message: str
    kind: Kind
    code: str = ""
    params: tuple[str, ...] = ()
    wait: float | None = None

    def names(self, parameter: str) -> bool:
        """Check whether it is about a parameter of the request: by ``param``, else by words that state it plainly.

        A text that merely holds the parameter's name, as a filter's that repeats the prompt, is not about it.
        """
        if self.kind is Kind.FILTER:
            return False
        if self.params:
            return any(
                param == parameter or param.endswith((f".{parameter}", f"[{parameter}]")) for param in self.params
            )
        return bool(re.search(_ABOUT.format(re.escape(parameter)), self.message[:_READ], re.I))

    @property
    def passes(self) -> bool:
        """Return whether the same call may be answered another time."""
        return self.kind is Kind.PASSING

    @property
    def likeness(self) -> str:
        """Return what it has in common with others of its sort, whose numbers and ids differ."""
        return _DIGITS.sub("#", f"{self.status} {self.message}")[:_ALIKE]


def problem_of(status: int, headers: Mapping[str, str], body: str) -> JudgeProblem | None:
    """Return what is wrong with a response; None where it may hold an answer.

    An error object in a body counts whatever the status is: several gateways send theirs with 200.
    """
    content = parsed(body)
    error = _error_in(content)
    if status < 400 and error is None:
        return None
    found: Mapping[str, Any] = error or {}
    message = _message(found, content, body)
    code = _code(found)
    told = _status_in(found, code) if status < 400 else status
    params = _params(found, content)
    wait = asked_wait(headers, content, message) if told == 429 or told >= 500 or told == 0 else None
    kind = _kind(told, code, message, params, page=is_page(body, ""))
    return JudgeProblem(told, f"status {told}: {message}" if told else message, kind, code, params, wait)


def parsed(body: str) -> Any:
    """Return the JSON of a body; None where it is none."""
    try:
        return json.loads(body.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return None


def _error_in(content: Any) -> Mapping[str, Any] | None:
    """The error object of a body, in whatever form."""
    if isinstance(content, list) and len(content) == 1:  # Google's
        content = content[0]
    if not isinstance(content, Mapping):
        return None
    error = content.get("error")
    if isinstance(error, Mapping) and error:
        return error
    if isinstance(error, str) and error:
        return {**content, "message": error}
    choices = content.get("choices")
    if isinstance(choices, list) and choices:
        inner = choices[0].get("error") if isinstance(choices[0], Mapping) else None
        return inner if isinstance(inner, Mapping) and inner else None
    errors = content.get("errors")
    if isinstance(errors, list) and errors:
        return errors[0] if isinstance(errors[0], Mapping) else {"message": str(errors[0])}
    if content.get("object") == "error" or content.get("type") == "error" or content.get("success") is False:
        return content
    if "choices" not in content and any(key in content for key in ("detail", "message", "msg", "error_msg")):
        return content
    return None


def _message(error: Mapping[str, Any], content: Any, body: str) -> str:
    for key in ("message", "msg", "error_msg", "detail", "error", "reason"):
        value = error.get(key)
        if isinstance(value, str) and value.strip():
            return _with_raw(value.strip(), error)
        if isinstance(value, list) and value:
            return "; ".join(_detail_words(each) for each in value[:3])
        if isinstance(value, Mapping) and isinstance(value.get("message"), str):
            return str(value["message"])
    if content is None:
        return _title(body) or " ".join(body.split()) or "no words"
    return " ".join(str(error or content).split()) or "no words"


def _with_raw(message: str, error: Mapping[str, Any]) -> str:
    """What a gateway says, and what the provider behind it said (OpenRouter's ``metadata.raw``)."""
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, Mapping) else None
    return f"{message}: {raw}" if isinstance(raw, str) and raw.strip() else message


def _detail_words(each: Any) -> str:
    """One entry of FastAPI's ``detail``."""
    if not isinstance(each, Mapping):
        return str(each)
    place = each.get("loc")
    where = ".".join(str(part) for part in place) if isinstance(place, list | tuple) else ""
    return f"{where}: {each.get('msg', each)}" if where else str(each.get("msg", each))


def is_page(body: str, content_type: str) -> bool:
    """Check whether a body is a web page."""
    start = body.lstrip("\ufeff \r\n\t")[:200].lower()
    return start.startswith(("<!doctype", "<html", "<head", "<body", "<?xml")) or (
        "text/html" in content_type.lower() and start.startswith("<")
    )


def _title(body: str) -> str:
    """What a web page is called."""
    if not is_page(body, ""):
        return ""
    found = re.search(r"<title[^>]*>([^<]{1,200})</title>", body, re.I)
    words = found[1] if found else re.sub(r"<[^>]*>", " ", body[:2000])
    return f"a web page: {' '.join(words.split())}"


def _code(error: Mapping[str, Any]) -> str:
    values = (error.get("code"), error.get("type"), error.get("status"))
    return " ".join(str(value) for value in values if isinstance(value, str | int) and not isinstance(value, bool))


def _status_in(error: Mapping[str, Any], code: str) -> int:
    """The status that an error object in a body of status 200 stands for; 0 where it does not say."""
    for key in ("code", "status", "status_code", "http_status"):
        value = error.get(key)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600:
            return value
    words = {
        "rate_limit": 429,
        "too_many_requests": 429,
        "resource_exhausted": 429,
        "overloaded": 529,
        "invalid_request": 400,
    }
    return next((status for word, status in words.items() if word in code.lower()), 0)


def _params(error: Mapping[str, Any], content: Any) -> tuple[str, ...]:
    named = error.get("param")
    found = [named] if isinstance(named, str) and named else []
    detail = error.get("detail", content.get("detail") if isinstance(content, Mapping) else None)
    for each in detail if isinstance(detail, list) else []:
        place = each.get("loc") if isinstance(each, Mapping) else None
        if isinstance(place, list | tuple):
            found += [str(part) for part in place[-1:]]
    return tuple(found)


def _kind(status: int, code: str, message: str, params: tuple[str, ...], *, page: bool) -> Kind:
    text = f"{code} {message[:_READ]}"
    named = next((kind for kind, pattern in _PATTERNS if pattern.search(text)), None)
    if status == 402:
        return Kind.ACCOUNT
    if status == 429:
        # A request that is larger than the whole allowance will never pass.
        never = {Kind.ACCOUNT: "insufficient", Kind.TOO_LONG: "request too large"}
        is_lasting = named is not None and never.get(named, "\0") in text.lower()
        return named if is_lasting and named is not None else Kind.PASSING
    if status in _PASSING or (status >= 500 and status != 501):
        return Kind.PASSING
    if status == 0:
        return named if named in (Kind.ACCOUNT, Kind.FILTER, Kind.KEY) else Kind.PASSING
    if status == 401 or (status == 403 and not page):
        return (
            Kind.FILTER
            if named is Kind.FILTER and status == 403
            else Kind.ACCOUNT
            if named is Kind.ACCOUNT
            else Kind.KEY
        )
    if status in (404, 405, 410) or status < 400 or (page and status != 413):
        return Kind.ADDRESS
    if status == 413:
        return Kind.TOO_LONG
    if status == 451:
        return Kind.FILTER
    if any("role" in param for param in params) and named is None:
        return Kind.SYSTEM
    return named or Kind.REQUEST
