"""What a client can ask for: one value an operation, and the table of all of them."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


class BodyKind(enum.Enum):
    """How the request's body is written, so where its `model` is found."""

    JSON = "json"
    MULTIPART = "multipart"


class Ending(enum.Enum):
    """How a streamed answer proves that it is whole."""

    CHAT = "chat"  # every index seen has a finish_reason
    RESPONSES = "responses"  # response.completed, .incomplete or .failed
    DONE_EVENT = "done_event"  # an event whose type ends in .done or .completed
    FRAMING = "framing"  # HTTP's own framing, nothing more


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the OpenAI surface.

    `name` stands in configuration, logs and metrics; `path` follows `/v1`, or the deployment in Azure's classic shape.
    """

    name: str
    path: str
    body: BodyKind
    ending: Ending
    deployment_scoped: bool  # Azure's classic shape names the deployment in the path
    asks_usage: bool = False  # a stream reports usage only where `stream_options.include_usage` asks for it
    stored_words: tuple[bytes, ...] = ()  # one of them stands in each body that names a file or store of one endpoint
    socket: bool = False  # a WebSocket session, opened by GET


CHAT: Final = Operation(
    "chat", "/chat/completions", BodyKind.JSON, Ending.CHAT, True, asks_usage=True, stored_words=(b"file_id",)
)
COMPLETIONS: Final = Operation("completions", "/completions", BodyKind.JSON, Ending.CHAT, True, asks_usage=True)
EMBEDDINGS: Final = Operation("embeddings", "/embeddings", BodyKind.JSON, Ending.FRAMING, True)
RESPONSES: Final = Operation(
    *("responses", "/responses", BodyKind.JSON, Ending.RESPONSES, False),
    stored_words=(b"file_id", b"vector_store_id", b"container"),
)
IMAGES_GENERATIONS: Final = Operation(
    "images_generations", "/images/generations", BodyKind.JSON, Ending.DONE_EVENT, True
)
IMAGES_EDITS: Final = Operation("images_edits", "/images/edits", BodyKind.MULTIPART, Ending.DONE_EVENT, True)
SPEECH: Final = Operation("speech", "/audio/speech", BodyKind.JSON, Ending.DONE_EVENT, True)
TRANSCRIPTIONS: Final = Operation(
    "transcriptions", "/audio/transcriptions", BodyKind.MULTIPART, Ending.DONE_EVENT, True
)
TRANSLATIONS: Final = Operation("translations", "/audio/translations", BodyKind.MULTIPART, Ending.FRAMING, True)
MODERATIONS: Final = Operation("moderations", "/moderations", BodyKind.JSON, Ending.FRAMING, False)
REALTIME: Final = Operation("realtime", "/realtime", BodyKind.JSON, Ending.FRAMING, False, socket=True)
# One a deployment has to list: many a server that has responses does not have them over WebSocket.
RESPONSES_WEBSOCKET: Final = Operation(
    "responses_websocket", "/responses", BodyKind.JSON, Ending.FRAMING, False, socket=True
)

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        operation.name: operation
        for operation in (
            CHAT,
            COMPLETIONS,
            EMBEDDINGS,
            RESPONSES,
            IMAGES_GENERATIONS,
            IMAGES_EDITS,
            SPEECH,
            TRANSCRIPTIONS,
            TRANSLATIONS,
            MODERATIONS,
            REALTIME,
            RESPONSES_WEBSOCKET,
        )
    }
)
