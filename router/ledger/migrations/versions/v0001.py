"""Requests, their attempts, sums by hour, prices, and how far the segments are read"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None
branch_labels = None
depends_on = None

_TEXT = sa.Text(collation="C").with_variant(sa.Text(), "sqlite")
_TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens", "reasoning_tokens")


def upgrade() -> None:
    op.create_table(
        "requests",
        _column("id", _TEXT, primary_key=True),
        *_all(sa.BigInteger, "at_us"),
        *_texts("key", "workload", "model", "operation", "plan", "rule_version", "outcome"),
        *_all(sa.BigInteger, "status"),
        *_texts("code"),
        *_all(sa.Boolean, "stream"),
        *_texts("cloud", "endpoint", "deployment"),
        *_all(sa.BigInteger, "attempts"),
        *_all(sa.Boolean, "left_holder"),
        *_all(sa.BigInteger, *_TOKENS, "cost_nano_usd"),
        *_all(sa.Double, "total_ms", "first_byte_ms", "first_token_ms", "queued_ms", "overhead_ms"),
        *_all(sa.BigInteger, "bytes_in", "bytes_out"),
        *_texts("client_request_id", "trace_id"),
    )
    op.create_index("requests_at", "requests", ["at_us"])
    op.create_table(
        "attempts",
        _column("id", _TEXT, primary_key=True),
        *_texts("request_id"),
        *_all(sa.BigInteger, "at_us"),
        *_texts("key", "workload", "model", "plan", "cloud", "deployment", "outcome"),
        *_all(sa.BigInteger, "status"),
        *_all(sa.Boolean, "hedge", "reused"),
        *_all(sa.BigInteger, *_TOKENS),
        *_all(sa.Boolean, "estimated"),
        *_all(sa.BigInteger, "cost_nano_usd"),
        *_texts("price"),
        *_all(sa.Double, "began_ms", "connect_ms", "tls_ms", "first_byte_ms", "waited_ms"),
        *_texts("upstream_request_id"),
    )
    op.create_index("attempts_at", "attempts", ["at_us"])
    op.create_table(
        "usage_hours",
        _column("hour", sa.BigInteger(), primary_key=True, autoincrement=False),
        *(
            _column(name, _TEXT, primary_key=True)
            for name in ("key", "workload", "model", "cloud", "deployment", "plan")
        ),
        *_all(sa.BigInteger, "requests", "ok", "attempts", "estimated", *_TOKENS),
        *_all(sa.BigInteger, "cost_nano_usd", "charged_nano_usd", "bytes_in", "bytes_out"),
        *_all(sa.BigInteger, *(f"charged_{name}" for name in _TOKENS)),
    )
    op.create_table(
        "prices",
        _column("version", _TEXT, primary_key=True),
        *_all(sa.BigInteger, "prompt_nano_usd", "completion_nano_usd"),
        sa.Column("cached_nano_usd", sa.BigInteger(), nullable=True),
        *_all(sa.BigInteger, "since_us"),
    )
    op.create_table(
        "positions",
        _column("writer", _TEXT, primary_key=True),
        *_all(sa.BigInteger, "segment", "bytes"),
    )


def _column(name: str, kind: Any, **more: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, nullable=False, **more)


def _all(kind: Any, *names: str) -> list[sa.Column[Any]]:
    return [_column(name, kind()) for name in names]


def _texts(*names: str) -> list[sa.Column[Any]]:
    return [_column(name, _TEXT) for name in names]
