"""The control path of a fake cloud, on its own port: `/__emulator/{received,faults,quota,health}`."""

from typing import Final, Protocol

import orjson

from router.emulator.answer import Answer, json_answer
from router.emulator.faults import FaultBook, read_faults
from router.emulator.received import Received, Request
from router.emulator.shapes import EmulatorConfigError, fields, number

PREFIX: Final = "/__emulator/"


class Controlled(Protocol):
    """What the control path reads and changes."""

    received: Received
    faults: FaultBook

    def lower_quotas(self, share: float) -> None: ...


def control(cloud: Controlled, request: Request) -> Answer:
    """GET received, DELETE received (resets), GET, POST (adds a list, or one) and DELETE faults, GET health,
    POST quota (`{"share": 0.5}` leaves half of all limits).
    """
    match request.method, request.path.removeprefix(PREFIX):
        case "GET", "received":
            return json_answer(cloud.received.as_json())
        case "DELETE", "received":
            cloud.received.reset()
            return json_answer(cloud.received.as_json())
        case "GET", "faults":
            return json_answer(cloud.faults.listed())
        case "POST", "faults":
            return _add(cloud.faults, bytes(request.body))
        case "DELETE", "faults":
            cloud.faults.clear()
            return json_answer([])
        case "POST", "quota":
            return _lower_quotas(cloud, bytes(request.body))
        case "GET", "health":
            return json_answer({"status": "ok"})
    return _error(404, f"no {request.method} {request.path} here")


def _add(book: FaultBook, body: bytes) -> Answer:
    try:
        given = orjson.loads(body)
        book.extend(read_faults(given if isinstance(given, list) else [given]))
    except (orjson.JSONDecodeError, EmulatorConfigError) as error:
        return _error(400, str(error))
    return json_answer(book.listed())


def _lower_quotas(cloud: Controlled, body: bytes) -> Answer:
    try:
        given = fields(orjson.loads(body), "quota", {"share": number})
    except (orjson.JSONDecodeError, EmulatorConfigError) as error:
        return _error(400, str(error))
    cloud.lower_quotas(given.get("share", 1.0))
    return json_answer(given)


def _error(status: int, message: str) -> Answer:
    return Answer(status, "application/json", orjson.dumps({"error": {"message": message}}))
