"""What answers report as usage, in every spelling, and what is no usage."""

import pytest

from router.accounting.usage import read_usage
from router.model.outcome import Usage


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            '{"prompt_tokens":9,"completion_tokens":12,"total_tokens":21,"prompt_tokens_details":{"cached_tokens":4},'
            '"completion_tokens_details":{"reasoning_tokens":7}}',
            Usage(9, 12, 4, 7),
        ),
        ('{"prompt_tokens":8,"total_tokens":8}', Usage(8)),  # embeddings
        (
            '{"input_tokens":36,"input_tokens_details":{"cached_tokens":1},"output_tokens":87,'
            '"output_tokens_details":{"reasoning_tokens":2},"total_tokens":123}',
            Usage(36, 87, 1, 2),
        ),
        ('{"input_tokens":50,"output_tokens":1056,"input_tokens_details":{"image_tokens":40}}', Usage(50, 1056)),
        ('{"type":"tokens","input_tokens":14,"output_tokens":45}', Usage(14, 45)),  # transcription
        ('{"type":"duration","seconds":9}', None),
        ('{"prompt_tokens":3,"completion_tokens":null,"prompt_tokens_details":null}', Usage(3)),
        ('{"prompt_tokens":3,"completion_tokens":"many","completion_tokens_details":[1]}', Usage(3)),
        ('{"prompt_tokens":-1,"completion_tokens":1e300}', Usage()),
        ('{"prompt_tokens":true,"completion_tokens":99999999999999999999999}', Usage()),
        ("null", None),
        ("[]", None),
        ("7", None),
        ("{}", None),
    ],
)
def test_usage_is_read_in_every_spelling(usage: str, expected: Usage | None) -> None:
    assert read_usage(f'{{"id":"x","usage":{usage},"object":"list"}}'.encode()) == expected


def test_no_lie_about_tokens_adds_up_beyond_what_processes_can_tell_each_other() -> None:
    """A reading of more than 64 bits cannot be sent on, and with it all else that a worker counted."""
    largest = read_usage(b'{"usage":{"prompt_tokens":%d,"completion_tokens":%d}}' % ((1 << 32) - 1, 1 << 32))
    assert largest == Usage((1 << 32) - 1, 0)
    assert largest.prompt_tokens << 31 < 1 << 63


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"usage":', b"[" * 100_000, b"RIFF\x00audio"])
def test_a_body_that_is_no_json_object_reports_nothing(body: bytes) -> None:
    assert read_usage(body) is None
