"""What each operation answers: one function an operation, from an `Ask` to an `Answer`; no sockets, no time."""

from collections.abc import Callable, Mapping
from typing import Final

from router.emulator.answer import Answer, Ask
from router.emulator.answers.audio import speech, transcriptions, translations
from router.emulator.answers.chat import chat
from router.emulator.answers.completions import completions
from router.emulator.answers.images import edits, generations
from router.emulator.answers.responses import responses
from router.emulator.answers.vectors import embeddings, moderations

ANSWERS: Final[Mapping[str, Callable[[Ask], Answer]]] = {
    "chat": chat,
    "completions": completions,
    "embeddings": embeddings,
    "responses": responses,
    "images_generations": generations,
    "images_edits": edits,
    "speech": speech,
    "transcriptions": transcriptions,
    "translations": translations,
    "moderations": moderations,
}
