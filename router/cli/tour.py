"""The demo's first requests: what is sent with which key, what must come back, and a table of what went where."""

import asyncio
import io
import time
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

_TIMEOUT_S: Final = 60.0
_LOG_WAIT_S: Final = 5.0
_LOG_POLL_S: Final = 0.02
_FAILOVER_TRIES: Final = 12  # one in three of them misses both broken regions, so that all do happens never
_CHAT: Final = "/chat/completions"
_LEGEND: Final = "1st byte: until the head came. From the access log: went to, tokens (in+out)."


@dataclass(frozen=True, slots=True)
class Step:
    """One request and what must come of it. `fields` None: a recording, as a form. `ending`: of the whole answer."""

    name: str
    path: str
    fields: Mapping[str, Any] | None
    status: int = 200
    code: str | None = None  # of the error that must come
    ending: bytes = b""


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of one request. `record`: its line of the access log. `problem`: empty where all is as it should."""

    step: Step
    status: int
    first_byte_s: float
    record: Mapping[str, Any]
    problem: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tour goes: the router's base URL (with /v1), its access log, and the emulated clouds' own addresses."""

    url: str
    log: Path
    clouds: Mapping[str, tuple[str, str]]  # endpoint id: (cloud, address)


def _chat(text: str, **more: object) -> dict[str, object]:
    return {"model": "gpt-4o", "max_tokens": 16, "messages": [{"role": "user", "content": text}], **more}


def _steps(*, everywhere: bool) -> list[Step]:
    """A request of each kind. `everywhere`: the key may use every cloud, so also the model that only CoreWeave has."""
    unknown = (404, "model_not_found")
    elsewhere = _chat("Good morning.", model="qwen3-32b")
    responses = {"model": "gpt-4o", "input": "Good morning.", "max_output_tokens": 16, "stream": True}
    speech = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "Good morning."}
    return [
        Step("chat", _CHAT, _chat("Good morning.")),
        Step("chat, stream", _CHAT, _chat("Good morning.", stream=True), ending=b"data: [DONE]\n\n"),
        Step("embeddings", "/embeddings", {"model": "text-embedding-3-small", "input": "Good morning."}),
        Step("responses", "/responses", responses, ending=b"\n\n"),
        Step("image", "/images/generations", {"model": "gpt-image-1", "prompt": "A morning."}),
        Step("speech", "/audio/speech", speech),
        Step("transcription", "/audio/transcriptions", None),
        Step("only elsewhere", _CHAT, elsewhere) if everywhere else Step("only elsewhere", _CHAT, elsewhere, *unknown),
        Step("unknown model", _CHAT, _chat("Good morning.", model="gpt-9"), *unknown),
        Step("moderation", "/moderations", {"model": "gpt-4o", "input": "Hm."}, 404, "unsupported_operation"),
    ]


class Tour:
    """Sends the first requests, those of one key at the same time, and prints what became of them."""

    def __init__(self, http: aiohttp.ClientSession, place: Place, console: Console) -> None:
        self._http, self._place, self._console = http, place, console
        self._problems: list[str] = []

    async def run(self, api_key: str, internal_key: str) -> list[str]:
        """Returns what did not come out as it must; empty where everything did."""
        seen = await self._ask_all(_steps(everywhere=False), api_key)
        wrong = Step("a wrong key", _CHAT, _chat("Good morning."), 401, "invalid_api_key")
        seen += [await self._ask(wrong, "sk-ir-nobody"), await self._failover(api_key)]
        self._console.print(_LEGEND)
        self._console.print()
        self._show("api", "Azure and nowhere else; not told who served", seen)
        await self._ask_witnesses()
        seen = await self._ask_all(_steps(everywhere=True), internal_key)
        self._show("internal", "offered to Azure first; told who served", seen)
        return self._problems

    async def _ask_all(self, steps: list[Step], key: str) -> list[Seen]:
        return list(await asyncio.gather(*(self._ask(step, key) for step in steps)))

    async def _ask(self, step: Step, key: str) -> Seen:
        data: Any = orjson.dumps(step.fields) if step.fields is not None else _recording()
        headers = {"authorization": f"Bearer {key}"}
        if step.fields is not None:
            headers["content-type"] = "application/json"
        sent_at = time.monotonic()
        async with self._http.post(self._place.url + step.path, data=data, headers=headers) as answer:
            first_byte_s = time.monotonic() - sent_at
            body = await answer.read()
        record = await self._record(answer.headers.get("x-request-id", ""))
        problem = _problem(step, answer.status, body, answer.headers.get("x-router-served-by"), record)
        return Seen(step, answer.status, first_byte_s, record, problem)

    async def _failover(self, key: str) -> Seen:
        """Breaks two of three regions, asks until one of them was met, and makes both whole again."""
        step = Step("chat, failover", _CHAT, _chat("Good morning.", stream=True), ending=b"data: [DONE]\n\n")
        broken = {"azure-eastus2": {"status": 429, "retry_after": 1}, "azure-swedencentral": {"status": 500}}
        for endpoint, fault in broken.items():
            async with self._http.post(self._faults_of(endpoint), json={"kind": "status", **fault}) as answer:
                answer.raise_for_status()
        try:
            for _ in range(_FAILOVER_TRIES):
                seen = await self._ask(step, key)
                if seen.problem or len(_attempts(seen.record)) > 1:
                    return seen
        finally:
            for endpoint in broken:
                async with self._http.delete(self._faults_of(endpoint)) as answer:
                    answer.raise_for_status()
        return Seen(step, seen.status, seen.first_byte_s, seen.record, "no broken region was ever asked")

    def _faults_of(self, endpoint: str) -> str:
        return f"{self._place.clouds[endpoint][1]}/__emulator/faults"

    async def _ask_witnesses(self) -> None:
        """The clouds themselves say what they have seen: those that the api key may not use, nothing."""
        counts = []
        for endpoint, (cloud, address) in self._place.clouds.items():
            async with self._http.get(f"{address}/__emulator/received") as answer:
                seen = await answer.json()
            requests = sum(seen["by_deployment"].values())  # probes name none
            counts.append(f"{endpoint} {requests}")
            if cloud != "azure" and requests:
                self._problems.append(f"{endpoint} saw {requests} requests of a key that may use azure only")
        self._console.print(Text(f"The clouds themselves saw: {', '.join(counts)} requests."))
        self._console.print()

    async def _record(self, request_id: str) -> Mapping[str, Any]:
        """The request's line of the access log, which is written in batches; empty where it does not come."""
        give_up_at = time.monotonic() + _LOG_WAIT_S
        wanted = f'"{request_id}"'.encode()
        while request_id and time.monotonic() < give_up_at:
            for line in self._place.log.read_bytes().split(b"\n")[:-1]:
                if wanted in line:
                    found: dict[str, Any] = orjson.loads(line)
                    return found
            await asyncio.sleep(_LOG_POLL_S)
        return {}

    def _show(self, workload: str, what: str, seen: list[Seen]) -> None:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=0, title_justify="left", title_style="")
        table.title = Text.assemble((f"The key of workload {workload}", "bold"), f": {what}")
        table.add_column("request", no_wrap=True)
        table.add_column("status", no_wrap=True)
        table.add_column("went to (a line an attempt)", overflow="fold")
        table.add_column("1st byte", justify="right", no_wrap=True)
        table.add_column("tokens", justify="right", no_wrap=True)
        for each in seen:
            style = "bold red" if each.problem else ""
            table.add_row(each.step.name, str(each.status), _where(each), _ms(each.first_byte_s), _tokens(each.record))
            if each.problem:
                table.add_row("", "", Text(each.problem, style), "", "")
                self._problems.append(f"{workload}: {each.step.name}: {each.problem}")
        self._console.print(table)
        self._console.print()


def _problem(step: Step, status: int, body: bytes, served_by: str | None, record: Mapping[str, Any]) -> str:
    """What is wrong with an answer, or nothing."""
    if status != step.status:
        return f"status {status} and not {step.status}"
    if not record:
        return "the access log does not know it"
    if step.code is not None and record.get("code") != step.code:
        return f"code {record.get('code')} and not {step.code}"
    if not body.endswith(step.ending):
        return "the stream ended too early"
    if record.get("workload") == "api" and any(each["cloud"] != "azure" for each in _attempts(record)):
        return "it was sent to a cloud that the key may not use"
    told = f"{record.get('cloud')}/{record.get('served_by')}" if record.get("workload") == "internal" else None
    if status == 200 and served_by != told:
        return f"x-router-served-by is {served_by} and not {told}"
    return ""


def _attempts(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = record.get("attempts", [])
    return found


def _where(seen: Seen) -> Text:
    """Each attempt in its line; a failed one with the reason."""
    lines = []
    for attempt in _attempts(seen.record):
        failed = attempt["outcome"] not in ("served", "answered")
        status = attempt.get("status", 0)
        why = f" {status if status >= 400 else attempt['outcome']}" if failed else ""
        lines.append(Text(f"{attempt['cloud']}: {attempt['deployment']}{why}", "yellow" if failed else ""))
    return Text("\n").join(lines) if lines else Text(f"nowhere: {seen.record.get('code', '')}", "dim")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def _tokens(record: Mapping[str, Any]) -> str:
    usage = record.get("usage")
    return f"{usage.get('prompt_tokens', 0)}+{usage.get('completion_tokens', 0)}" if usage else ""


def _recording() -> aiohttp.FormData:
    """A tenth of a second of silence, to be transcribed."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16_000)
        sound.writeframes(bytes(3200))
    form = aiohttp.FormData({"model": "whisper-1"})
    form.add_field("file", file.getvalue(), filename="silence.wav", content_type="audio/wav")
    return form


def new_session() -> aiohttp.ClientSession:
    """Blind to the environment's proxies: everything here is on loopback."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S), trust_env=False)
