"""The modes of the benchmark, in the order in which they run."""

from typing import Final

from loadtests.baselines.peers import PEERS
from loadtests.bench.bodies import chat_body
from loadtests.bench.closed import ClosedLoop, PacedStreams
from loadtests.bench.frontier import Frontier
from loadtests.bench.latency import AddedLatency, PacedFrames, SerialLatency
from loadtests.bench.memory import BurstMemory, IdleStreams, OpenStreams
from loadtests.bench.mode import KIB, SMALL, Mode
from loadtests.bench.on_off import MetricsOnOff
from loadtests.bench.startup import StartUp

JSON: Final = chat_body(SMALL)
STREAM: Final = chat_body(SMALL, stream=True, usage=True)

PEERS_HERE: Final = tuple(peer.name for peer in PEERS if not peer.missing)
WITH_PEERS: Final = ("nginx", "router", *PEERS_HERE) if PEERS_HERE else ()

MODES: Final[tuple[Mode, ...]] = (
    ClosedLoop("json-1k", "≤ 2.2 ×", JSON),
    ClosedLoop("json-16k", "≤ 1.6 ×", chat_body(16 * KIB)),
    ClosedLoop("json-128k", "≤ 1.6 ×", chat_body(128 * KIB)),
    ClosedLoop("tls-json-1k", "≤ 2.0 ×", JSON, tls=True),
    ClosedLoop("tls-both-1k", "", JSON, tls=True, tls_clients=True, subjects=("nginx", "router")),
    ClosedLoop("tls-both-stream", "", STREAM, tls=True, tls_clients=True, streams=True, subjects=("nginx", "router")),
    ClosedLoop("decision-log", "on − off ≤ 0.25 ×", JSON, subjects=("nginx", "router", "router-no-decisions")),
    ClosedLoop("accounts", "on − off ≤ 0.2 ×", JSON, subjects=("nginx", "router", "router-no-accounts")),
    MetricsOnOff("metrics-onoff", "≤ 0.1 ×", JSON),
    ClosedLoop("stream-50", "≤ 1.25 ×", STREAM, streams=True),
    PacedStreams("stream-paced", "≤ 1.25 ×", STREAM),
    ClosedLoop("stream-hidden-usage", "≤ 1.6 ×", STREAM, router_body=chat_body(SMALL, stream=True), streams=True),
    ClosedLoop("peers-json-1k", "≤ 0.6 × LLM-aware", JSON, subjects=WITH_PEERS),
    ClosedLoop("peers-stream-50", "< LLM-aware", STREAM, streams=True, subjects=WITH_PEERS),
    ClosedLoop("workers-2", "≤ 1.1 × one", JSON, shared=True, subjects=("nginx", "router", "router-2-workers")),
    SerialLatency("added-c1", "≤ 0.15", JSON),
    AddedLatency("added-p99", "≤ nginx + 1 ms", JSON),
    PacedFrames("fidelity", "every frame", STREAM, streams=200),
    PacedFrames("added-ttft-500", "≤ 1", STREAM, streams=500),
    Frontier("frontier", "", JSON),
    IdleStreams("idle-streams", "≤ 1.0 ×", STREAM),
    OpenStreams("streams-5000", "≤ 16", STREAM),
    BurstMemory("memory-burst", "≤ 1.3", chat_body(150 * KIB, stream=True)),
    StartUp("startup", "≤ 1", JSON),
)
GAUGE: Final = ClosedLoop("gauge", "", JSON, subjects=("nginx", "naive"))
