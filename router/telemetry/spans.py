"""From a request's record to OpenTelemetry spans, and to a collector: one SERVER span, and a CLIENT span an attempt.

Names follow the semantic conventions for HTTP and for generative AI (1.41); what they have no word for begins with
`router.`. A record holds no prompt, no answer and no secret, so neither do its spans. This module needs the extra
`otel`; nothing imports it unless the configuration has a section `tracing`.
"""

import importlib.metadata
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import requests
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.util.types import AttributeValue

from router.model.decision import Offer
from router.model.fleet import Deployment
from router.model.outcome import AttemptRecord, RequestRecord, Usage
from router.telemetry.trace_context import Trace
from router.telemetry.tracing import TracingSettings

CLOSE_S: Final = 2.0
SEND_S: Final = 5.0  # for one batch, its retries included
SPANS_MAX: Final = 4096  # held until they are sent; some 3 KiB each
_BATCH_MAX: Final = 32  # the SDK holds the interpreter for some 2 ms to encode them
_DELAY_S: Final = 0.5

Attributes = dict[str, AttributeValue]

# `gen_ai.provider.name` and `gen_ai.operation.name`; what the conventions have no value for keeps ours.
_PROVIDERS: Final[Mapping[str, str]] = MappingProxyType(
    {"azure_openai": "azure.ai.openai", "bedrock": "aws.bedrock", "vertex": "gcp.vertex_ai", "oci": "oci.generative_ai"}
)
_OPERATIONS: Final[Mapping[str, str]] = MappingProxyType({"responses": "chat", "completions": "text_completion"})
_SERVER_AT_FAULT: Final = frozenset({"upstream_error", "stream_broken", "internal_error"})
# Ends of an attempt that are nobody's error: it did what it was for, or was no longer needed.
_NO_ERROR: Final = frozenset({"served", "hedge_lost", "client_gone", "withdrawn"})
_ERROR: Final = Status(StatusCode.ERROR)
_UNSET: Final = Status(StatusCode.UNSET)
_VERSION: Final = importlib.metadata.version("inference-router")
_SCOPE: Final = InstrumentationScope("inference-router", _VERSION)


class SpanExport:
    """Sends spans from a thread of the SDK's own. What cannot be sent in time is dropped and counted."""

    def __init__(self, settings: TracingSettings, tell: Callable[[str], None], spans_max: int = SPANS_MAX) -> None:
        # What the SDK has to say of a lost collector is told in our own log; see `_Counted`.
        logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
        session = requests.Session()
        session.trust_env = False  # neither a proxy nor a password from the environment
        session.max_redirects = 0  # the headers may hold a key, which is the collector's and nobody else's
        self._sender = _Counted(
            OTLPSpanExporter(
                endpoint=settings.endpoint,
                certificate_file=settings.ca_file,
                headers={name: secret.reveal() for name, secret in settings.headers.items()},
                timeout=SEND_S,
                compression=Compression.Gzip,
                session=session,
            ),
            tell,
        )
        self._processor = BatchSpanProcessor(
            self._sender,
            max_queue_size=spans_max,
            schedule_delay_millis=_DELAY_S * 1000,
            max_export_batch_size=min(_BATCH_MAX, spans_max),
        )
        self._spans_max = spans_max
        self._taken = self._refused = 0  # spans; written by the event loop's thread alone
        self._resource = Resource.create(
            {
                "service.name": settings.service_name,
                "service.version": _VERSION,
                "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
            }
        )

    @property
    def dropped(self) -> int:
        """Spans that could not be taken, and those of batches that could not be sent."""
        return self._refused + self._sender.failed

    def request(self, trace: Trace, record: RequestRecord, deployments: Mapping[str, Deployment]) -> None:
        """Makes the spans of a request that has ended, all or none of them. Never blocks."""
        spans = spans_of(trace, record, deployments, self._resource)
        if self._taken - self._sender.done + len(spans) > self._spans_max:
            self._refused += len(spans)
            return
        self._taken += len(spans)
        for span in spans:
            self._processor.on_end(span)

    def close(self) -> None:
        """Sends what is there, for at most `CLOSE_S` seconds. Blocks."""
        # A daemon, because a collector that accepts and never answers must not keep the process.
        closing = threading.Thread(target=self._processor.shutdown, name="spans-close", daemon=True)
        closing.start()
        closing.join(CLOSE_S)
        self._sender.shutdown()


class _Counted(SpanExporter):
    """An exporter that counts what it has done with, and tells when the collector is lost or is back."""

    def __init__(self, inner: SpanExporter, tell: Callable[[str], None]) -> None:
        self._inner, self._tell = inner, tell
        self._lost = self._closed = False
        self.done = self.failed = 0  # spans; written by the exporting thread alone

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._inner.export(spans)
        lost = result is not SpanExportResult.SUCCESS
        if lost:
            self.failed += len(spans)
        self.done += len(spans)
        if lost is not self._lost:
            self._lost = lost
            if lost:
                self._tell("spans_lost")
            else:
                self._tell("spans_restored")
        return result

    def shutdown(self) -> None:
        if not self._closed:
            self._closed = True
            self._inner.shutdown()


def spans_of(
    trace: Trace, record: RequestRecord, deployments: Mapping[str, Deployment], resource: Resource
) -> list[ReadableSpan]:
    """The spans of one request: its attempts in their order, and itself at the end."""
    began_ns = int(record.at * 1e9)
    ended_ns = began_ns + int(record.total_ms * 1e6)
    trace_id, flags = int(trace.trace_id, 16), TraceFlags(trace.flags)
    own = SpanContext(trace_id, int(trace.span_id, 16), is_remote=False, trace_flags=flags)
    parent = None
    if trace.parent_id:
        parent = SpanContext(trace_id, int(trace.parent_id, 16), is_remote=True, trace_flags=flags)
    operation = _OPERATIONS.get(record.operation, record.operation)
    spans = [
        ReadableSpan(
            name=f"{operation} {record.model}",
            context=SpanContext(trace_id, int(attempt.span_id, 16), is_remote=False, trace_flags=flags),
            parent=own,
            resource=resource,
            attributes=_of_attempt(record, attempt, number, operation, deployments.get(attempt.deployment)),
            kind=SpanKind.CLIENT,
            status=_UNSET if attempt.outcome in _NO_ERROR else _ERROR,
            start_time=began_ns + int(attempt.began_ms * 1e6),
            # Rounded on its own it could end after its parent.
            end_time=min(began_ns + int((attempt.began_ms + attempt.waited_ms) * 1e6), ended_ns),
            instrumentation_scope=_SCOPE,
        )
        for number, attempt in enumerate(record.attempts)
        if attempt.span_id  # else it ended before it could be sent
    ]
    spans.append(
        ReadableSpan(
            name=trace.route,
            context=own,
            parent=parent,
            resource=resource,
            attributes=_of_request(trace, record, operation),
            events=[_refusal(offer, began_ns) for offer in record.refusals],
            kind=SpanKind.SERVER,
            status=_ERROR if record.outcome in _SERVER_AT_FAULT or record.status >= 500 else _UNSET,
            start_time=began_ns,
            end_time=ended_ns,
            instrumentation_scope=_SCOPE,
        )
    )
    return spans


def _of_request(trace: Trace, record: RequestRecord, operation: str) -> Attributes:
    method, _, route = trace.route.partition(" ")
    attributes: Attributes = {
        "http.request.method": method,
        "http.route": route,
        "url.scheme": "http",
        "router.request_id": record.id,
        "router.outcome": record.outcome,
        "router.overhead_ms": record.overhead_ms,
    }
    if record.outcome != "client_gone":
        attributes["http.response.status_code"] = record.status
    if record.outcome != "ok":
        attributes["error.type"] = record.code or record.outcome
    for name, value in (
        ("gen_ai.operation.name", operation),
        ("gen_ai.request.model", record.model),
        ("router.client_request_id", record.client_request_id),
        ("router.key", record.key),
        ("router.workload", record.workload),
        ("router.plan", record.plan),
        ("router.rule_version", record.rule_version),
        ("router.cloud", record.cloud),
        ("router.deployment", record.served_by),
        ("router.left_holder", record.left_holder),
        ("router.queued_ms", record.queued_ms),
        ("router.first_byte_ms", record.first_byte_ms),
        ("router.cost_nano_usd", record.cost_nano_usd),
    ):
        if value:
            attributes[name] = value
    return attributes


def _of_attempt(
    record: RequestRecord, attempt: AttemptRecord, number: int, operation: str, deployment: Deployment | None
) -> Attributes:
    attributes: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.request.model": record.model,
        "http.request.method": "POST",
        "router.cloud": attempt.cloud,
        "router.deployment": attempt.deployment,
        "router.outcome": attempt.outcome,
        "router.hedge": attempt.hedge,
        "router.connection_reused": attempt.reused,
    }
    if deployment is not None:
        endpoint = deployment.endpoint
        attributes["gen_ai.provider.name"] = _PROVIDERS.get(endpoint.provider, endpoint.provider)
        attributes["server.address"], attributes["server.port"] = endpoint.base_url.host, endpoint.base_url.port
    if record.stream:
        attributes["gen_ai.request.stream"] = True
    if attempt.outcome not in _NO_ERROR:
        attributes["error.type"] = attempt.outcome
    for name, value in (
        ("http.response.status_code", attempt.status),
        ("http.request.resend_count", number),
        ("router.first_byte_ms", attempt.first_byte_ms),
        ("router.connect_ms", attempt.connect_ms),
        ("router.tls_ms", attempt.tls_ms),
        ("router.upstream_request_id", attempt.upstream_request_id),
    ):
        if value:
            attributes[name] = value
    if attempt.deployment == record.served_by:
        if record.first_token_ms:
            waited_s = max(0.0, record.first_token_ms - attempt.began_ms) / 1000
            attributes["gen_ai.response.time_to_first_chunk"] = waited_s
        if record.usage is not None:
            attributes |= _of_usage(record.usage)
    return attributes


def _of_usage(usage: Usage) -> Attributes:
    attributes: Attributes = {
        "gen_ai.usage.input_tokens": usage.prompt_tokens,
        "gen_ai.usage.output_tokens": usage.completion_tokens,
    }
    if usage.cached_tokens:
        attributes["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens:
        attributes["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    return attributes


def _refusal(offer: Offer, at_ns: int) -> Event:
    """When it was refused is not on record: it stands at the begin of the request."""
    return Event(
        "router.refusal",
        {"router.deployment": offer.deployment, "router.cloud": offer.cloud, "router.reason": offer.outcome},
        at_ns,
    )
