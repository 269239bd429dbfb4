"""Error bodies as the clouds send them, by the name that a scripted fault calls them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import orjson


@dataclass(frozen=True, slots=True)
class About:
    """What the text of an error body speaks of. `wait_s`: the wait it names, whole seconds."""

    deployment: str = "the deployment"
    model: str = "the model"
    region: str = "the region"
    operation: str = "chat"
    api_version: str = "v1"
    wait_s: int = 60
    dialect: str = "azure_openai"
    streamed: bool = False  # a stream was asked for


_OPERATION_NAMES: Final = {
    "chat": "ChatCompletions_Create",
    "completions": "Completions_Create",
    "embeddings": "Embeddings_Create",
    "responses": "Responses_Create",
    "images_generations": "ImageGenerations_Create",
    "transcriptions": "Transcriptions_Create",
    "translations": "Translations_Create",
    "speech": "AudioSpeech_Create",
}


def azure_error(code: str, message: str, **more: Any) -> bytes:
    """Azure's usual error object: a code and a message, and no type or param."""
    return orjson.dumps({"error": {"code": code, "message": message, **more}})


def openai_error(message: str, kind: str, code: str | int | None, param: str | None = None) -> bytes:
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def azure_token_quota(about: About) -> bytes:
    return _azure_quota(about, "token")


def azure_call_quota(about: About) -> bytes:
    return _azure_quota(about, "call")


def _azure_quota(about: About, what: str) -> bytes:
    """The older text on dated api-versions, the newer one on v1."""
    if about.api_version in ("v1", "preview"):
        message = (
            f"Your requests to {about.deployment} for {about.model} in {about.region} have exceeded the {what} rate "
            f"limit for your current AIServices S0 pricing tier. Please retry after {about.wait_s} seconds."
        )
    else:
        name = _OPERATION_NAMES.get(about.operation, "ChatCompletions_Create")
        message = (
            f"Requests to the {name} Operation under Azure OpenAI API version {about.api_version} have exceeded "
            f"{what} rate limit of your current OpenAI S0 pricing tier. Please retry after {about.wait_s} seconds. "
            "Please contact Azure support service if you would like to further increase the default rate limit."
        )
    return azure_error("429", message)


def deployment_not_found(_about: About) -> bytes:
    return azure_error(
        "DeploymentNotFound",
        "The API deployment for this resource does not exist. If you created the deployment within the last 5 "
        "minutes, please wait a moment and try again.",
    )


def resource_not_found(_about: About) -> bytes:
    return azure_error("404", "Resource not found")


def unauthorized(_about: About) -> bytes:
    return azure_error(
        "401",
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for "
        "an active subscription and use a correct regional API endpoint for your resource.",
    )


def unauthorized_token(_about: About) -> bytes:
    """What a bad Entra token gets: no `error` object at all."""
    return orjson.dumps(
        {
            "statusCode": 401,
            "message": "Unauthorized. Access token is missing, invalid, audience is incorrect "
            "(https://cognitiveservices.azure.com), or have expired.",
        }
    )


def content_filter(_about: About) -> bytes:
    safe = {"filtered": False, "severity": "safe"}
    return orjson.dumps(
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management "
                "policy. Please modify your prompt and retry.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": {
                        "hate": safe,
                        "jailbreak": {"filtered": True, "detected": True},
                        "self_harm": safe,
                        "sexual": safe,
                        "violence": safe,
                    },
                },
            }
        }
    )


def invalid_openai_key(_about: About) -> bytes:
    return openai_error("Incorrect API key provided.", "invalid_request_error", "invalid_api_key")


def _html(_about: About) -> bytes:
    return (
        b"<html><head><title>502 Bad Gateway</title></head>"
        b"<body><center><h1>502 Bad Gateway</h1></center></body></html>\r\n"
    )


BODIES: Final[dict[str, Callable[[About], bytes]]] = {
    "quota": azure_token_quota,
    "call_quota": azure_call_quota,
    "capacity": lambda about: azure_error(
        "429",
        "The system is currently experiencing high demand and cannot process your request. Your request exceeds the "
        f"maximum usage size allowed during peak load. Please retry after {about.wait_s} seconds.",
    ),
    "content_filter": content_filter,
    "unsupported_parameter": lambda _about: openai_error(
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
        "invalid_request_error",
        "unsupported_parameter",
        "max_tokens",
    ),
    "context_length": lambda _about: openai_error(
        "This model's maximum context length is 128000 tokens. Please reduce the length of the messages.",
        "invalid_request_error",
        "context_length_exceeded",
        "messages",
    ),
    "model_not_supported": lambda _about: azure_error("BadRequest", "Model not supported"),
    "unauthorized": unauthorized,
    "unauthorized_token": unauthorized_token,
    "forbidden": lambda _about: azure_error(
        "403", "Access denied due to Virtual Network/Firewall rules, or the resource has been temporarily blocked."
    ),
    "deployment_not_found": deployment_not_found,
    "resource_not_found": resource_not_found,
    "timeout": lambda _about: azure_error("Timeout", "The operation was timeout."),
    "headers_too_large": lambda _about: azure_error("431", "Request Header Fields Too Large"),
    "server_error": lambda _about: openai_error(
        "The server had an error while processing your request. Sorry about that!",
        "server_error",
        "InternalServerError",
    ),
    "overloaded": lambda _about: azure_error("ServiceUnavailable", "The service is temporarily unable to process it."),
    "openai_rate_limit": lambda about: openai_error(
        f"Rate limit reached for {about.model}. Please try again in {about.wait_s}s.", "tokens", "rate_limit_exceeded"
    ),
    "insufficient_quota": lambda _about: openai_error(
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "vllm_flat": lambda _about: orjson.dumps(
        {"object": "error", "message": "bad request", "type": "BadRequestError", "param": None, "code": 400}
    ),
    "vllm_nested": lambda _about: openai_error("bad request", "BadRequestError", 400),
    "google_retry_info": lambda about: orjson.dumps(
        {
            "error": {
                "code": 429,
                "message": "You exceeded your current quota.",
                "status": "RESOURCE_EXHAUSTED",
                "details": [
                    {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
                    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{about.wait_s}s"},
                ],
            }
        }
    ),
    "html": _html,
    "empty": lambda _about: b"",
}

_BY_STATUS: Final = {
    400: "content_filter",
    401: "unauthorized",
    403: "forbidden",
    404: "deployment_not_found",
    408: "timeout",
    429: "quota",
    431: "headers_too_large",
    502: "html",
    503: "overloaded",
    504: "timeout",
}


def error_body(name: str | None, status: int, about: About) -> tuple[str, bytes]:
    """The content type and bytes of the body called `name`, or of the usual one for this status."""
    name = name or _BY_STATUS.get(status, "server_error")
    return ("text/html" if name == "html" else "application/json"), BODIES[name](about)
