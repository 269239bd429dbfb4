"""Errors in the shapes of the clouds that do not share OpenAI's or Azure's, by status."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import orjson

from router.emulator.answer import Headers
from router.emulator.bodies import About, error_body


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """What an error is besides its status."""

    body: bytes
    headers: Headers = ()
    content_type: str = "application/json"


def oci_error(code: str, message: str) -> bytes:
    """Oracle's: no `error` around it."""
    return orjson.dumps({"code": code, "message": message})


def google_error(code: int, status: str, message: str, *, array: bool = False, **more: Any) -> bytes:
    """Google's: a numeric code, a status in capitals, at times an array around it."""
    error = {"error": {"code": code, "message": message, "status": status, **more}}
    return orjson.dumps([error] if array else error)


def bedrock_error(name: str, message: str) -> ErrorAnswer:
    """AWS's: the error's name stands in a header."""
    return ErrorAnswer(orjson.dumps({"message": message}), (("x-amzn-errortype", f"{name}:"),))


_OCI: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        400: ("InvalidParameter", "The request could not be parsed."),
        401: (
            "NotAuthenticated",
            "The required information to complete authentication was not provided or was incorrect.",
        ),
        403: ("NotAllowed", "Please go to your home region to execute this operation."),
        404: ("NotAuthorizedOrNotFound", "Authorization failed or requested resource not found."),
        429: ("TooManyRequests", "User-rate limit exceeded."),
        503: ("ServiceUnavailable", "The service is currently unavailable."),
    }
)
_BEDROCK: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        400: ("ValidationException", "Malformed input request, please reformat your input and try again."),
        401: ("UnrecognizedClientException", "The security token included in the request is invalid."),
        403: ("AccessDeniedException", "You don't have access to the model with the specified model ID."),
        404: ("ResourceNotFoundException", "The resource you requested was not found."),
        408: ("ModelTimeoutException", "Model has timed out in processing the request."),
        424: ("ModelErrorException", "The system encountered an unexpected error during processing."),
        429: ("ThrottlingException", "Too many requests, please wait before trying again."),
        503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
        529: ("OverloadedException", "The model is overloaded."),
    }
)
_GOOGLE: Final[Mapping[int, tuple[str, str]]] = MappingProxyType(
    {
        400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
        401: (
            "UNAUTHENTICATED",
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
            "valid authentication credential.",
        ),
        403: ("PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied on resource."),
        404: ("NOT_FOUND", "The requested resource was not found."),
        429: ("RESOURCE_EXHAUSTED", "Resource exhausted. Please try again later."),
        499: ("CANCELLED", "The operation was cancelled."),
        503: ("UNAVAILABLE", "The service is currently unavailable."),
        504: ("DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
    }
)


def _oci(status: int, _about: About) -> ErrorAnswer:
    return ErrorAnswer(oci_error(*_OCI.get(status, ("InternalServerError", "Internal error occurred."))))


def _bedrock(status: int, _about: About) -> ErrorAnswer:
    return bedrock_error(*_BEDROCK.get(status, ("InternalServerException", "The server met an unexpected error.")))


def _vertex(status: int, about: About) -> ErrorAnswer:
    name, message = _GOOGLE.get(status, ("INTERNAL", "Internal error encountered."))
    return ErrorAnswer(google_error(status, name, message, array=about.streamed))


_USUAL: Final[Mapping[str, Callable[[int, About], ErrorAnswer]]] = MappingProxyType(
    {"oci": _oci, "bedrock": _bedrock, "vertex": _vertex}
)


def usual_error(status: int, about: About) -> ErrorAnswer:
    """What the cloud that `about` names sends with a status."""
    if about.dialect in _USUAL:
        return _USUAL[about.dialect](status, about)
    content_type, body = error_body(None, status, about)
    return ErrorAnswer(body, content_type=content_type)
