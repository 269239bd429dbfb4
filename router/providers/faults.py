"""Reads errors: the shapes that upstreams give them, what they mean, and how long they ask us to wait.

One reading serves all dialects, since gateways and compatible servers mix each other's shapes. It trusts the status
first, then names that a server chooses (`code`, `type`), and free text only where a client's words cannot be in it:
otherwise a prompt could make a deployment look broken.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import msgspec

from router.providers.dialect import Fault, Judgement
from router.providers.waits import wait_in_details, wait_in_headers, wait_in_limits, wait_in_text

_decode: Final = msgspec.json.Decoder().decode
_NOT_A_LETTER: Final = re.compile(r"[^a-z0-9]")


@dataclass(frozen=True, slots=True)
class ErrorFields:
    """What an error says, whatever its shape. `details`: the object it stood in, None for plain text."""

    message: str = ""
    code: str = ""
    type: str = ""
    param: str = ""
    details: Mapping[str, Any] | None = None


def decode_error(body: bytes) -> object:
    """Decodes a body; one that is no JSON becomes its text."""
    try:
        value: object = _decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return body.decode("utf-8", "replace").strip()
    return value


def read_error(value: object) -> ErrorFields:
    """Reads OpenAI's and Azure's `error`, API Management's, Google's (also in an array), flat vLLM's, AWS's, OCI's."""
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict) and value.get("error"):
        value = value["error"]
    if isinstance(value, str):
        return ErrorFields(message=value)
    if not isinstance(value, dict):
        return ErrorFields()
    message = value.get("message") or value.get("Message") or value.get("detail")
    code = value.get("code") or value.get("statusCode") or value.get("status")
    kind = value.get("type") or value.get("__type") or value.get("status")
    return ErrorFields(_text(message), _text(code), _text(kind), _text(value.get("param")), value)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return ""


# Names that servers put into `code`, `type` or `x-amzn-errortype`, as lower-case letters and digits only.
NAMES: Final[Mapping[str, Fault]] = MappingProxyType(
    {
        name: fault
        for fault, names in {
            Fault.THROTTLED: (
                "ratelimitexceeded",
                "ratelimitreached",
                "ratelimiterror",
                "toomanyrequests",
                "toomanyrequestserror",
                "throttled",
                "throttling",
                "throttlingexception",
                "servicequotaexceededexception",
                "resourceexhausted",
            ),
            Fault.CREDENTIAL: (
                "insufficientquota",
                "creditbalanceexhausted",
                "billinghardlimitreached",
                "billingnotactive",
                "accountdeactivated",
                "invalidapikey",
                "apikeyinvalid",
                "unauthorized",
                "unauthenticated",
                "authenticationerror",
                "permissiondenied",
                "permissiondeniederror",
                "accessdenied",
                "accessdeniedexception",
                "notauthenticated",
            ),
            Fault.MISSING: (
                "deploymentnotfound",
                "modelnotfound",
                "operationnotsupported",
                "unsupportedapiversion",
                "apiversionnotsupported",
                "notauthorizedornotfound",
            ),
            Fault.OVERLOADED: (
                "slowdown",
                "overloaded",
                "overloadederror",
                "engineoverloaded",
                "modelnotready",
                "modelnotreadyexception",
                "serviceunavailable",
                "serviceunavailableerror",
                "serviceunavailableexception",
                "unavailable",
            ),
            Fault.ANSWER: (
                "contentfilter",
                "contentpolicyviolation",
                "contextlengthexceeded",
                "invalidprompt",
                "invalidrequest",
                "invalidrequesterror",
                "invalidargument",
                "badrequest",
                "badrequesterror",
                "unprocessableentityerror",
                "validationexception",
                "unsupportedparameter",
                "unsupportedvalue",
            ),
        }.items()
        for name in names
    }
)
_PARTIAL: Final = frozenset({Fault.THROTTLED, Fault.CREDENTIAL, Fault.MISSING, Fault.OVERLOADED})
_MODEL_NOT_SUPPORTED: Final = re.compile(r"model not supported\.?", re.IGNORECASE)
_OVERLOAD_TEXT: Final = re.compile(r"queue is full|overloaded|\bslow down\b", re.IGNORECASE)
# CoreWeave's 429: "Concurrency limit reached for requests". A limit on what runs at one time is no quota.
_CONCURRENCY_TEXT: Final = re.compile(r"\bconcurrency limit\b", re.IGNORECASE)
_STATUS_IN_TEXT: Final = re.compile(r"\[([45]\d\d)\]", re.ASCII)


def judge_answer(status: int, headers: Mapping[bytes, bytes], body: bytes) -> Judgement:
    """Judges an answer that is no success. `headers`: names in lower case."""
    fields = read_error(decode_error(body))
    if status == 429 and _CONCURRENCY_TEXT.search(fields.message):
        return Judgement(Fault.OVERLOADED, wait_in_headers(headers), too_many=True)
    native = headers.get(b"x-amzn-errortype", b"").decode("latin-1").partition(":")[0]
    fault = _fault_of(status, _named(fields.code, native, fields.type), fields)
    wait_s = wait_in_headers(headers)
    if wait_s is None and fault in (Fault.THROTTLED, Fault.OVERLOADED):
        # A text speaks of this very refusal; the limits say when all of the quota is back, which may be much later.
        wait_s = wait_in_details(fields.details)
        if wait_s is None:
            wait_s = wait_in_text(fields.message)
        if wait_s is None and fault is Fault.THROTTLED:
            wait_s = wait_in_limits(headers)
    return Judgement(fault, wait_s)


def judge_event(error: object) -> Judgement:
    """Judges an error object inside a 200 stream: the status that it should have had is in its code or its text."""
    fields = read_error(error)
    named = _named(fields.code, fields.type)
    status = _status_in(fields)
    fault = named or Fault.SERVER_ERROR
    if status is not None:
        fault = _fault_of(status, named, fields)
    elif named is None and _OVERLOAD_TEXT.search(fields.message):
        fault = Fault.OVERLOADED
    if fault not in (Fault.THROTTLED, Fault.OVERLOADED):
        return Judgement(fault)
    wait_s = wait_in_details(fields.details)
    return Judgement(fault, wait_in_text(fields.message) if wait_s is None else wait_s)


def _fault_of(status: int, named: Fault | None, fields: ErrorFields) -> Fault:
    match status:
        case 401 | 402 | 403 | 407:
            return Fault.CREDENTIAL
        case 404 if fields.param not in ("", "model"):
            return Fault.ANSWER  # a response, file or conversation that the client named
        case 404 | 405 | 410:
            return Fault.MISSING
        case 408 | 424 | 499:
            return Fault.SERVER_ERROR
        case 429:
            return named if named in (Fault.CREDENTIAL, Fault.OVERLOADED) else Fault.THROTTLED
    if 400 <= status < 500:
        if named is not None and named in _PARTIAL:
            return named
        return Fault.MISSING if _MODEL_NOT_SUPPORTED.fullmatch(fields.message.strip()) else Fault.ANSWER
    if status in (503, 529) or named is Fault.OVERLOADED or _OVERLOAD_TEXT.search(fields.message):
        return Fault.OVERLOADED
    return Fault.THROTTLED if named is Fault.THROTTLED else Fault.SERVER_ERROR


def _named(*names: str) -> Fault | None:
    """Returns the fault of the first name that we know."""
    for name in names:
        fault = NAMES.get(_NOT_A_LETTER.sub("", name.lower()))
        if fault is not None:
            return fault
    return None


def _status_in(fields: ErrorFields) -> int | None:
    code = fields.code
    if len(code) == 3 and code.isascii() and code.isdigit() and code[0] in "45":
        return int(code)
    match = _STATUS_IN_TEXT.search(fields.message)
    return int(match[1]) if match else None
