"""What a client sees of an upstream's error answer: OpenAI's shape, and nothing about who served it unless revealed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import orjson

from router.model.error_body import error_json
from router.model.fleet import Deployment
from router.providers.dialect import Fault, Judgement
from router.providers.faults import ErrorFields, decode_error, read_error

_URL: Final = re.compile(r"(?:https?|wss?)://[^\s\"'<>\\]+", re.IGNORECASE)

_SERVER: Final = ("server_error", "upstream_error")
_THROTTLED: Final = ("rate_limit_error", "rate_limit_exceeded")
_CLIENT: Final = ("invalid_request_error", "invalid_request")


@dataclass(frozen=True, slots=True)
class ClientError:
    """The answer that the client gets. `body` is JSON."""

    status: int
    body: bytes


# What speaks of our own affairs gets our own words: status, type, code, message.
_OWN: Final[Mapping[Fault, tuple[int, str, str, str]]] = MappingProxyType(
    {
        Fault.THROTTLED: (
            429,
            "rate_limit_error",
            "rate_limit_exceeded",
            "The capacity for this model is used up for now. Retry after the time that `retry-after` names.",
        ),
        Fault.CREDENTIAL: (
            502,
            "server_error",
            "upstream_error",
            "The service behind this model refused the router. Your own key is fine; the operator has to act.",
        ),
        Fault.MISSING: (
            502,
            "server_error",
            "upstream_error",
            "The service behind this model does not have what the router asked for; the operator has to act.",
        ),
    }
)


def client_error(
    status: int, body: bytes, judgement: Judgement, deployment: Deployment, *, reveal: bool
) -> ClientError:
    """Turns an upstream's error answer into the client's.

    `deployment`: who gave it; its host, region and names are taken out unless `reveal`.
    """
    own = _OWN.get(judgement.kind)
    if own is not None and not reveal:
        own_status, type_, code, message = own
        return ClientError(own_status, error_json(message, type_, None, code))
    value = decode_error(body)
    if judgement.kind is Fault.ANSWER and status in (400, 422) and _is_openai_error(value):
        return ClientError(status, body)
    shown = own[0] if own is not None else _status(status)
    return ClientError(shown, _normalised(shown, read_error(value), None if reveal else deployment))


def _is_openai_error(value: object) -> bool:
    """An `error` object that an SDK can read: numeric codes, as Google and vLLM write them, are not in the contract."""
    error = value.get("error") if isinstance(value, dict) else None
    return isinstance(error, dict) and isinstance(error.get("code"), str | None)


def _status(status: int) -> int:
    """An error that is not the client's own must not look as if it were: no redirect, no 408, no 424."""
    if status == 408:
        return 504
    return status if 400 <= status < 600 and status not in (424, 499) else 502


def _normalised(status: int, fields: ErrorFields, hidden: Deployment | None) -> bytes:
    """Fills the four fields and keeps the rest of the object. `hidden`: whose names are taken out."""
    type_, code = _SERVER if status >= 500 else _THROTTLED if status == 429 else _CLIENT
    plain = f"The request failed with status {status}."
    # Text that is no JSON comes from a proxy on the way and may say anything: shown only to those who may see it.
    message = fields.message if hidden is None or fields.details is not None else ""
    name = _name(fields)
    details = {
        **(fields.details or {}),
        "message": message or plain,
        "type": fields.type if fields.type and fields.type != name else type_,
        "param": fields.param or None,
        "code": name or code,
    }
    try:
        return orjson.dumps({"error": details if hidden is None else _without(_names(hidden), details)})
    except (TypeError, RecursionError):  # integers beyond 64 bits, lone surrogates, nested without end
        return error_json(plain, type_, None, code)


def _name(fields: ErrorFields) -> str:
    """The error's name: where Google has a number in `code`, the name stands beside it in `status`."""
    beside = fields.details.get("status") if fields.details is not None else None
    return beside if fields.code.isdecimal() and isinstance(beside, str) and beside else fields.code


def _names(deployment: Deployment) -> list[tuple[re.Pattern[str], str]]:
    """What would tell who served, and what is put in its place. The deployment gets the name that was asked for."""
    endpoint = deployment.endpoint
    names = {
        endpoint.base_url.host: "(host)",
        endpoint.id: "(endpoint)",
        endpoint.region: "(region)",
        deployment.name: deployment.model,
    }
    return [(_URL, "(address)"), *((_pattern(name), instead) for name, instead in names.items() if name)]


def _pattern(name: str) -> re.Pattern[str]:
    # Messages write a region with spaces: "East US 2" for eastus2.
    spaced = r"\s?".join(re.escape(letter) for letter in name)
    return re.compile(rf"(?<![\w-]){spaced}(?![\w-])", re.IGNORECASE)


def _without(names: list[tuple[re.Pattern[str], str]], value: object) -> object:
    if isinstance(value, dict):
        return {key: _without(names, inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without(names, inner) for inner in value]
    if isinstance(value, str):
        for pattern, instead in names:
            value = pattern.sub(instead.replace("\\", r"\\"), value)
    return value
