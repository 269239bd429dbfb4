"""What a model can do, by its name: the operations of a deployment that lists none."""

import re
from typing import Final

_KINDS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (r"(^|/)text-embedding|(^|[-/])embed", ("embeddings",)),
    (r"moderation", ("moderations",)),
    (r"^(gpt-image|chatgpt-image)|^dall-e-2", ("images_generations", "images_edits")),
    (r"^dall-e", ("images_generations",)),
    (r"-realtime(-|$)", ("realtime",)),
    (r"(^|/)whisper", ("transcriptions", "translations")),
    (r"-transcribe", ("transcriptions",)),
    (r"(^|-)tts(-|$)", ("speech",)),
    (r"^(gpt-3\.5-turbo-instruct|davinci|babbage|text-davinci)", ("completions",)),
)
_CHAT: Final = ("chat", "responses")


def operations_of(model: str) -> frozenset[str]:
    """The operations that a model of this name has; a name that says nothing is a chat model's."""
    for pattern, operations in _KINDS:
        if re.search(pattern, model.lower()):
            return frozenset(operations)
    return frozenset(_CHAT)
