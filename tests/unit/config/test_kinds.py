import pytest

from router.config.kinds import operations_of
from router.model.operation import OPERATIONS


@pytest.mark.parametrize(
    ("model", "operations"),
    [
        ("gpt-4o", {"chat", "responses"}),
        ("gpt-4.1-mini", {"chat", "responses"}),
        ("o3", {"chat", "responses"}),
        ("meta-llama/Llama-3.3-70B-Instruct", {"chat", "responses"}),
        ("llama-4-70b", {"chat", "responses"}),
        ("gpt-4o-audio-preview", {"chat", "responses"}),
        ("text-embedding-3-small", {"embeddings"}),
        ("text-embedding-ada-002", {"embeddings"}),
        ("gpt-3.5-turbo-instruct", {"completions"}),
        ("davinci-002", {"completions"}),
        ("babbage-002", {"completions"}),
        ("gpt-image-1", {"images_generations", "images_edits"}),
        ("dall-e-2", {"images_generations", "images_edits"}),
        ("dall-e-3", {"images_generations"}),
        ("whisper-1", {"transcriptions", "translations"}),
        ("gpt-4o-transcribe", {"transcriptions"}),
        ("gpt-4o-mini-transcribe", {"transcriptions"}),
        ("gpt-4o-mini-tts", {"speech"}),
        ("tts-1", {"speech"}),
        ("tts-1-hd", {"speech"}),
        ("omni-moderation-latest", {"moderations"}),
    ],
)
def test_a_models_name_says_what_it_does(model: str, operations: set[str]) -> None:
    assert operations_of(model) == operations
    assert operations <= OPERATIONS.keys()
