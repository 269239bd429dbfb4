"""What became of a request and of its attempts: the values that metrics, logs and (later) the ledger are made from.

They hold no prompt, no answer and no secret, so whatever is made from them cannot leak one.
"""

import msgspec

from router.model.decision import Offer


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Tokens as the deployment reported them, or as estimated."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    audio_prompt_tokens: int = 0  # of the prompt's, as the next two: only sessions over WebSocket tell them apart
    audio_completion_tokens: int = 0
    audio_cached_tokens: int = 0


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One send (or failed connect) to one deployment.

    `outcome`: `served`, `answered` (a client's own error), or why it failed: `connect`, `stale`, `timeout`,
    `throttled`, `credential`, `missing`, `overloaded`, `server_error`, `broken`, `invalid`, `slow` (given up past the
    objective), `client_gone`, `hedge_lost` (the other copy was faster), `withdrawn` (a reload took the permission
    away), `violation`.
    """

    deployment: str
    cloud: str
    outcome: str
    status: int = 0  # the upstream's, 0 where it gave none
    reused: bool = False
    first_byte_ms: float = 0.0  # from the send to the first byte of the answer's head, 0 where none came
    waited_ms: float = 0.0  # all the time that this attempt kept the request waiting, connect included
    upstream_request_id: str = ""
    hedge: bool = False  # a second copy, sent while the first was silent
    connect_ms: float = 0.0  # of the dial that this attempt waited for: name and TCP
    tls_ms: float = 0.0  # likewise: the handshake
    began_ms: float = 0.0  # after the request's arrival
    span_id: str = ""  # 16 hex: what the deployment was sent as its parent, where the request is traced
    usage: Usage | None = None  # what it most likely billed: reported, or estimated; None: nothing
    estimated: bool = False  # `usage` is the router's own guess: the answer was cut before it said
    cost_nano_usd: int = 0
    price: str = ""  # version of the price that it was reckoned with


class RequestRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request, whole: a line of the access log.

    `outcome`: `ok`, `client_error`, `refused` (the router would not take it), `upstream_error` (no attempt worked),
    `stream_broken` (after the commit point), `client_gone`, `internal_error`.
    """

    id: str
    at: float  # wall seconds of its arrival
    outcome: str
    status: int  # what the client was sent; 499: it had hung up
    total_ms: float
    client_request_id: str = ""
    key: str = ""
    workload: str = ""
    model: str = ""  # canonical; empty where it was never known, so never a client's free text
    operation: str = ""
    plan: str = ""
    rule_version: str = ""
    stream: bool = False
    served_by: str = ""  # Deployment.id
    cloud: str = ""
    code: str = ""  # of the error the client was sent
    attempts: tuple[AttemptRecord, ...] = ()
    refusals: tuple[Offer, ...] = ()  # offers that were not taken: passed over, or asked in vain
    left_holder: bool = False  # the cloud with the right of first refusal had refused, and others were asked
    queued_ms: float = 0.0  # in the waiting room
    first_byte_ms: float = 0.0  # from arrival to the first byte that was sent to the client
    overhead_ms: float = 0.0  # arrival to end, less all waits for client and deployments
    bytes_in: int = 0
    bytes_out: int = 0
    usage: Usage | None = None  # of the attempt that served: a client is not charged for those that failed
    trace_id: str = ""  # 32 hex: the client's, or one of the router's own where the request is traced
    cost_nano_usd: int = 0  # by the price of the deployment that served; 0: there is no price, or no usage
    first_token_ms: float = 0.0  # of a stream: from arrival to the first event with content
    endpoint: str = ""  # whose deployment served
    client: str = ""  # the address that it came from, where the configuration wants it in the log
