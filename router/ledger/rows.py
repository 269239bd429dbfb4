"""From records to rows: what one transaction writes of the requests that it brings in.

Sums are integers and rows are made from the same records, so what an hour's sums say is what its rows add up to.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

import msgspec

from router.ledger.tables import USAGE_HOURS
from router.model.outcome import AttemptRecord, RequestRecord, Usage

Row: TypeAlias = tuple[str | int | float | bool, ...]
"""Values in the order of their table's columns."""

HOUR_S: Final = 3600
HOUR_US: Final = HOUR_S * 1_000_000
SUMS: Final = tuple(str(column.name) for column in USAGE_HOURS.c if not column.primary_key)
_SUMS_ROW: Final = tuple(column.name for column in USAGE_HOURS.c)
_LIE: Final = 1 << 48  # sums of what is below it fit into 64 bits
_NOTHING: Final = Usage()
_ZEROS: Final = [0] * len(SUMS)

_Place: TypeAlias = tuple[int, str, str, str, str, str, str]  # the primary key of `USAGE_HOURS`


class Rows:
    """Of a batch of requests."""

    def __init__(self, records: Iterable[RequestRecord]) -> None:
        self.requests: list[Row] = []
        self.attempts: list[Row] = []
        self._sums: dict[_Place, list[int]] = {}
        for record in records:
            self._add(record)

    @property
    def sums(self) -> list[dict[str, int | str]]:
        """What they add to their hours, in one order for all who write to the same store: so none waits for another
        that waits for it.
        """
        return [dict(zip(_SUMS_ROW, (*place, *sums), strict=True)) for place, sums in sorted(self._sums.items())]

    def _add(self, record: RequestRecord) -> None:
        at_us = round(record.at * 1e6)
        hour = at_us // HOUR_US * HOUR_S
        self.requests.append(_request(record, at_us))
        served = self._at(hour, record, record.cloud, record.served_by)  # its numbers stand in the order of `SUMS`
        served[0] += 1
        served[1] += record.outcome == "ok"
        served[9] += record.cost_nano_usd
        served[10] += record.bytes_in
        served[11] += record.bytes_out
        usage = record.usage
        if usage is not None:
            served[12] += usage.prompt_tokens
            served[13] += usage.cached_tokens
            served[14] += usage.completion_tokens
            served[15] += usage.reasoning_tokens
        for number, attempt in enumerate(record.attempts, 1):
            usage = attempt.usage or _NOTHING
            self.attempts.append(_attempt(record, attempt, usage, f"{record.id}/{number}", at_us))
            sums = served
            if attempt.deployment != record.served_by:
                sums = self._at(hour, record, attempt.cloud, attempt.deployment)
            sums[2] += 1
            sums[3] += attempt.estimated
            sums[4] += usage.prompt_tokens
            sums[5] += usage.cached_tokens
            sums[6] += usage.completion_tokens
            sums[7] += usage.reasoning_tokens
            sums[8] += attempt.cost_nano_usd

    def _at(self, hour: int, record: RequestRecord, cloud: str, deployment: str) -> list[int]:
        place = hour, record.key, record.workload, record.model, cloud, deployment, record.plan
        sums = self._sums.get(place)
        if sums is None:
            sums = self._sums[place] = _ZEROS.copy()
        return sums


def _request(record: RequestRecord, at_us: int) -> Row:
    usage = record.usage or _NOTHING
    # fmt: off
    return (
        record.id, at_us, record.key, record.workload, record.model, record.operation, record.plan,
        record.rule_version, record.outcome, record.status, record.code, record.stream, record.cloud, record.endpoint,
        record.served_by, len(record.attempts), record.left_holder,
        usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.reasoning_tokens,
        record.cost_nano_usd, record.total_ms, record.first_byte_ms, record.first_token_ms, record.queued_ms,
        record.overhead_ms, record.bytes_in, record.bytes_out, record.client_request_id, record.trace_id,
    )
    # fmt: on


def _attempt(record: RequestRecord, attempt: AttemptRecord, usage: Usage, name: str, at_us: int) -> Row:
    # fmt: off
    return (
        name, record.id, at_us, record.key, record.workload, record.model, record.plan, attempt.cloud,
        attempt.deployment, attempt.outcome, attempt.status, attempt.hedge, attempt.reused,
        usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens, usage.reasoning_tokens, attempt.estimated,
        attempt.cost_nano_usd, attempt.price, attempt.began_ms, attempt.connect_ms, attempt.tls_ms,
        attempt.first_byte_ms, attempt.waited_ms, attempt.upstream_request_id,
    )
    # fmt: on


def mended(records: Iterable[RequestRecord]) -> list[RequestRecord]:
    """What any store takes: text without zero bytes, which PostgreSQL refuses, and 0 for numbers that are lies."""
    return msgspec.convert(_mended(msgspec.to_builtins(list(records))), list[RequestRecord])


def _mended(value: object) -> object:
    match value:
        case str():
            return value.replace("\0", "")
        case int():
            return value if abs(value) < _LIE else 0
        case list():
            return [_mended(item) for item in value]
        case dict():
            return {key: _mended(item) for key, item in value.items()}
        case _:
            return value
