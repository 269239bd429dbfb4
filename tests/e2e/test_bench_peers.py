"""Other gateways answer what the upstream sends: one that failed fast would look cheap."""

from pathlib import Path

import orjson
import pytest

from loadtests.baselines.peers import PEERS, Peer, Ports
from loadtests.bench.against import compared
from loadtests.bench.bars import against_fastest
from loadtests.bench.bodies import chat_body, fetch
from loadtests.bench.figures import Round, Sample
from loadtests.bench.mode import events_of, new_site
from loadtests.bench.modes import MODES
from loadtests.bench.processes import BenchError, Cores
from loadtests.bench.rounds import Result
from loadtests.bench.subjects import SUBJECTS, Gateway, Site, stand


def text_of(event: bytes) -> str:
    """What an event of a stream adds to the answer."""
    data = event.removeprefix(b"data: ").strip()
    choices = [] if data == b"[DONE]" else orjson.loads(data)["choices"]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_relays_answers_and_streams_whole(peer: Peer) -> None:
    """Peers are for whoever wants to compare, so that one which is not installed is no failure in CI either."""
    if peer.missing:
        pytest.skip(peer.missing)
    plain, stream = chat_body(1024), chat_body(1024, stream=True, usage=True)
    with new_site(Cores("0-1", "0-1")) as site, stand(site, [SUBJECTS[peer.name]], gap_ms=0.0) as here:
        target = here.targets[peer.name]

        answer = orjson.loads(fetch(target.port, target.path, plain))
        events = events_of(target, stream)

        direct = orjson.loads(fetch(here.direct.port, here.direct.path, plain))
        sent = events_of(here.direct, stream)
    assert answer["choices"][0]["message"]["content"] == direct["choices"][0]["message"]["content"]
    assert answer["usage"]["total_tokens"] == direct["usage"]["total_tokens"]
    assert len(events) == len(sent)
    assert "".join(map(text_of, events)) == "".join(map(text_of, sent))


class TestMissing:
    PEER = Peer("absent", "no-such-program", lambda _ports, _folder: [], "make bench-peers", aware=True)

    def test_says_how_to_install(self) -> None:
        assert self.PEER.missing == "absent is not installed: make bench-peers"

    def test_cannot_be_launched(self, tmp_path: Path) -> None:
        with pytest.raises(BenchError, match="make bench-peers"):
            Gateway(self.PEER).launch(Site(tmp_path, Cores(0, 0)))


def test_configurations_have_no_word_left_to_fill_in(tmp_path: Path) -> None:
    for peer in PEERS:
        command = peer.command(Ports(own=11111, upstream=22222, spare=33333), tmp_path)
        written = " ".join(command) + "".join(file.read_text() for file in tmp_path.iterdir())
        assert "11111" in written
        assert "22222" in written
        assert "@PORT@" not in written
        assert "@UPSTREAM_PORT@" not in written
        for file in tmp_path.iterdir():
            file.unlink()


def test_a_peers_row_compares_within_rounds() -> None:
    """The machine was twice as slow in the second round, and no ratio changes for it."""
    costs = {"nginx": 10.0, "router": 20.0, "litellm": 8000.0}
    rounds = [Round({name: Sample(value * pace, 1) for name, value in costs.items()}, 8.0, 0.0) for pace in (1, 2)]
    mode = next(mode for mode in MODES if mode.name == "peers-json-1k")
    result = Result(mode, list(costs), wanted=2, rounds=rounds)

    assert compared(result, "litellm") == (
        "12,000 (8,000-16,000)",
        "800 (800-800)",
        "0.00250 (0.00250-0.00250)",
    )
    assert compared(result, "nginx")[1:] == ("", "2.00 (2.00-2.00)")
    assert compared(result, "router")[1:] == ("2.00 (2.00-2.00)", "")


class TestBar:
    def test_the_fastest_that_knows_llm_requests_is_the_measure(self) -> None:
        costs = {"router": 6.0, "sglang-router": 20.0, "vllm-router": 12.0, "haproxy": 1.0}
        taken = Round({name: Sample(value, 1) for name, value in costs.items()}, gauge=8.0, steal=0.0)
        assert against_fastest(["sglang-router", "vllm-router", "litellm"])(taken) == 0.5

    def test_without_any_there_is_no_figure(self) -> None:
        with pytest.raises(KeyError):
            against_fastest(["litellm"])(Round({"router": Sample(1.0, 1)}, gauge=8.0, steal=0.0))
