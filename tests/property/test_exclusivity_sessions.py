"""The three barriers hold for sessions as they do for requests: any one of them alone keeps a session in its cloud.

The planted bug and the barriers are those of `test_exclusivity_barriers`. And what is written upwards is looked at in
the code: nothing in `transport/` writes to a deployment without the comparison before it.
"""

import ast
from pathlib import Path

import aiohttp
import pytest

from router.transport import upstream, websocket
from tests.property.test_exclusivity_barriers import BARRIERS, OTHER, SUBSETS, plant_the_bug
from tests.router_kit import API_KEY, Cloud, RunningRouter, router

VOICE = {"voice": "gpt-realtime"}


async def opens(r: RunningRouter) -> bool:
    """Whether a session of the exclusive workload opens and says something upwards."""
    headers = {"authorization": f"Bearer {API_KEY}"}
    async with aiohttp.ClientSession() as client:
        try:
            async with client.ws_connect(f"{r.url}/v1/realtime?model=gpt-realtime", headers=headers) as ws:
                await ws.receive_json(timeout=5)
                await ws.send_json({"type": "response.create"})
                return (await ws.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT
        except aiohttp.WSServerHandshakeError:
            return False


@pytest.mark.parametrize("removed", SUBSETS, ids=lambda subset: "+".join(subset) or "none")
async def test_any_barrier_holds_alone(removed: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    async with router(
        Cloud("azure", deployments=VOICE), Cloud(OTHER, "coreweave", "openai", deployments=VOICE), leaves=True
    ) as r:
        assert await opens(r)
        plant_the_bug(monkeypatch)
        for barrier in removed:
            BARRIERS[barrier](monkeypatch)
        if "send" in removed:
            monkeypatch.setattr(websocket, "require_permit", lambda *_: None)  # imported by name
        received = r.clouds[OTHER].received
        received.reset()

        await r.worker.reload()
        await opens(r)

        assert (received.bytes > 0) is (len(removed) == len(BARRIERS)), "the bug that no barrier stops must be seen"


def test_no_place_writes_to_a_deployment_without_comparing() -> None:
    """Every function that writes compares with the permit first; the list is of all there are."""
    found = {}
    for module in (upstream, websocket):
        tree = ast.parse(Path(str(module.__file__)).read_text("utf-8"))
        for holder in (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)):
            for method in (node for node in holder.body if isinstance(node, ast.FunctionDef)):
                calls = [node.func for node in ast.walk(method) if isinstance(node, ast.Call)]
                names = [getattr(call, "attr", getattr(call, "id", "")) for call in calls]
                if {"write", "writelines"} & set(names):
                    found[f"{holder.name}.{method.name}"] = "require_permit" in names

    assert found == {
        "UpstreamConnection.send": True,
        "UpstreamSocket.send": True,
        "ClientSocket.send": False,  # down, to the client
    }
