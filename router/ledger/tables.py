"""The store's tables, for every statement that is made of them. How they came about is for `migrations` to say.

A request and its attempts are written in one transaction, together with what they add to the sums of their hour and
with how far the segments have been read. So an entry whose request is there is there whole, and counted once.
"""

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, MetaData, Table, Text
from sqlalchemy.types import TypeEngine

# By bytes: ids and names are compared for equality alone, and PostgreSQL sorts by a language several times slower.
TEXT: Final[TypeEngine[str]] = Text(collation="C").with_variant(Text(), "sqlite")

METADATA: Final = MetaData()


def _texts(*names: str) -> list[Column[str]]:
    return [Column(name, TEXT, nullable=False) for name in names]


def _whole(*names: str) -> list[Column[int]]:
    return [Column(name, BigInteger, nullable=False) for name in names]


def _flags(*names: str) -> list[Column[bool]]:
    return [Column(name, Boolean, nullable=False) for name in names]


def _times(*names: str) -> list[Column[float]]:
    return [Column(name, Double, nullable=False) for name in names]


def _primary(*names: str) -> list[Column[str]]:
    return [Column(name, TEXT, primary_key=True, nullable=False) for name in names]


_TOKENS: Final = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")

REQUESTS: Final = Table(
    "requests",
    METADATA,
    *_primary("id"),
    *_whole("at_us"),  # wall microseconds of its arrival
    *_texts("key", "workload", "model", "operation", "plan", "rule_version", "outcome"),
    *_whole("status"),
    *_texts("code"),
    *_flags("stream"),
    *_texts("cloud", "endpoint", "deployment"),  # who served it; empty: nobody
    *_whole("attempts"),
    *_flags("left_holder"),
    *_whole(*_TOKENS),  # as the deployment that served reported them
    *_whole("cost_nano_usd"),  # what the client is charged: of the attempt that served
    *_times("total_ms", "first_byte_ms", "first_token_ms", "queued_ms", "overhead_ms"),
    *_whole("bytes_in", "bytes_out"),
    *_texts("client_request_id", "trace_id"),
)
Index("requests_at", REQUESTS.c.at_us)

ATTEMPTS: Final = Table(
    "attempts",
    METADATA,
    *_primary("id"),
    *_texts("request_id"),
    *_whole("at_us"),  # of the request's arrival, so that both fall into one hour
    *_texts("key", "workload", "model", "plan", "cloud", "deployment", "outcome"),
    *_whole("status"),
    *_flags("hedge", "reused"),
    *_whole(*_TOKENS),  # what it most likely billed
    *_flags("estimated"),
    *_whole("cost_nano_usd"),
    *_texts("price"),  # the version of `PRICES` that the cost was reckoned with
    *_times("began_ms", "connect_ms", "tls_ms", "first_byte_ms", "waited_ms"),
    *_texts("upstream_request_id"),
)
Index("attempts_at", ATTEMPTS.c.at_us)

# A request counts where it was served, an attempt where it was sent to: requests that nobody served have no cloud.
USAGE_HOURS: Final = Table(
    "usage_hours",
    METADATA,
    Column("hour", BigInteger, primary_key=True, autoincrement=False, nullable=False),  # Unix seconds of its begin
    *_primary("key", "workload", "model", "cloud", "deployment", "plan"),
    *_whole("requests", "ok"),  # of them those whose outcome is `ok`
    *_whole("attempts", "estimated"),  # of them those whose usage is the router's own estimate
    *_whole(*_TOKENS),  # of attempts
    *_whole("cost_nano_usd"),  # of attempts: what the organisation is billed
    *_whole("charged_nano_usd"),  # of requests: what their clients are charged
    *_whole("bytes_in", "bytes_out"),
    *_whole(*(f"charged_{name}" for name in _TOKENS)),  # of requests: what their clients were told
)

PRICES: Final = Table(
    "prices",
    METADATA,
    *_primary("version"),
    *_whole("prompt_nano_usd", "completion_nano_usd"),  # for a million tokens
    Column("cached_nano_usd", BigInteger, nullable=True),  # null: cached ones cost what others do
    *_whole("since_us"),  # when it was first seen
)

# What endpoints store for clients: an id belongs to the key that it was told to, and lives at one endpoint.
HOMES: Final = Table(
    "homes",
    METADATA,
    *_primary("key", "id"),
    *_texts("kind", "endpoint", "workload"),
    *_whole("at_us"),  # wall microseconds: when it was first seen
)
Index("homes_listed", HOMES.c.key, HOMES.c.kind, HOMES.c.at_us)
Index("homes_at", HOMES.c.kind, HOMES.c.at_us)

# How far the segments of one folder are read. `writer` is that folder's identity: many routers may share a store.
POSITIONS: Final = Table(
    "positions",
    METADATA,
    *_primary("writer"),
    *_whole("segment", "bytes"),  # all before that segment, and so many bytes of it, are in the store
)
