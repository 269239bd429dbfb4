"""Azure's content filter annotations, all of them saying that nothing was found."""

from typing import Any, Final

_SEVERITIES: Final = {
    name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")
}
_DETECTED: Final = {"filtered": False, "detected": False}

PROMPT_RESULTS: Final[dict[str, Any]] = {**_SEVERITIES, "jailbreak": _DETECTED}
CHOICE_RESULTS: Final[dict[str, Any]] = {
    **_SEVERITIES,
    "protected_material_text": _DETECTED,
    "protected_material_code": _DETECTED,
}
PROMPT_FILTER: Final = [{"prompt_index": 0, "content_filter_results": PROMPT_RESULTS}]


def late_annotation(index: int, length: int) -> dict[str, Any]:
    """What the asynchronous filter sends: no id, a choice without delta, and which characters it has checked."""
    return {
        "id": "",
        "object": "",
        "created": 0,
        "model": "",
        "choices": [
            {
                "index": index,
                "finish_reason": None,
                "content_filter_results": CHOICE_RESULTS,
                "content_filter_offsets": {"check_offset": 0, "start_offset": 0, "end_offset": length},
            }
        ],
    }


def first_chunk() -> dict[str, Any]:
    """What Azure sends before any delta: empty but for the prompt's annotations."""
    return {"id": "", "object": "", "created": 0, "model": "", "prompt_filter_results": PROMPT_FILTER, "choices": []}
