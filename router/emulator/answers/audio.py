"""Speech, transcriptions and translations. The sound is noise of the right length; the text is the usual one."""

import base64
import random
from collections.abc import Iterator
from typing import Any, Final

from router.emulator.answer import Answer, Ask, RefusedError, json_answer, stream_answer, typed_event
from router.emulator.bodies import openai_error

_MEDIA_TYPES: Final = {
    "mp3": "audio/mpeg",
    "opus": "audio/opus",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
_BYTES_A_CHARACTER: Final = 64
_PIECE_BYTES: Final = 1024
_DURATION_S: Final = 2.5


def speech(ask: Ask) -> Answer:
    text = ask.fields.get("input")
    if not isinstance(text, str) or not text:
        raise RefusedError(400, openai_error("'input' is missing", "invalid_request_error", None, "input"))
    rng = random.Random(f"{ask.settings.seed}/{ask.deployment.name}")
    sound = rng.randbytes(len(text) * _BYTES_A_CHARACTER)
    if ask.fields.get("stream_format") == "sse":
        return stream_answer(_speech_events(ask, sound))
    media_type = _MEDIA_TYPES.get(str(ask.fields.get("response_format", "mp3")), "audio/mpeg")
    return Answer(200, media_type, sound, tokens=len(text) // 4)


def transcriptions(ask: Ask) -> Answer:
    if ask.streamed:
        _require_file(ask)
        return stream_answer(_transcript_events(ask))
    return _written(ask, "transcribe")


def translations(ask: Ask) -> Answer:
    return _written(ask, "translate")


def _require_file(ask: Ask) -> None:
    if "file" not in ask.files:
        raise RefusedError(400, openai_error("'file' is missing", "invalid_request_error", None, "file"))


def _written(ask: Ask, task: str) -> Answer:
    _require_file(ask)
    words = ask.words()
    text = "".join(words)
    wanted = ask.fields.get("response_format", "json")
    if wanted == "verbose_json":
        value = {"task": task, "language": "english", "duration": _DURATION_S, "text": text}
        return json_answer({**value, "segments": [_segment(text)]}, len(words))
    if wanted == "text":
        return _plain(f"{text}\n", len(words))
    if wanted == "srt":
        return _plain(f"1\n00:00:00,000 --> 00:00:02,500\n{text}\n\n", len(words))
    if wanted == "vtt":
        return _plain(f"WEBVTT\n\n00:00:00.000 --> 00:00:02.500\n{text}\n\n", len(words))
    return json_answer({"text": text}, len(words))


def _plain(text: str, tokens: int) -> Answer:
    return Answer(200, "text/plain; charset=utf-8", text.encode(), tokens=tokens)


def _segment(text: str) -> dict[str, Any]:
    return {
        "id": 0,
        "seek": 0,
        "start": 0.0,
        "end": _DURATION_S,
        "text": text,
        "tokens": [1, 2, 3],
        "temperature": 0.0,
        "avg_logprob": -0.1,
        "compression_ratio": 1.0,
        "no_speech_prob": 0.01,
    }


def _speech_events(ask: Ask, sound: bytes) -> Iterator[bytes]:
    for at in range(0, len(sound), _PIECE_BYTES):
        piece = base64.b64encode(sound[at : at + _PIECE_BYTES]).decode()
        yield typed_event({"type": "speech.audio.delta", "audio": piece})
    output = len(sound) // _BYTES_A_CHARACTER
    usage = {"input_tokens": ask.prompt_tokens, "output_tokens": output, "total_tokens": ask.prompt_tokens + output}
    yield typed_event({"type": "speech.audio.done", "usage": usage})


def _transcript_events(ask: Ask) -> Iterator[bytes]:
    words = ask.words()
    for piece in ask.pieces(words):
        yield typed_event({"type": "transcript.text.delta", "delta": piece})
    usage = {
        "type": "tokens",
        "input_tokens": 14,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 14},
        "output_tokens": len(words),
        "total_tokens": 14 + len(words),
    }
    yield typed_event({"type": "transcript.text.done", "text": "".join(words), "usage": usage})
