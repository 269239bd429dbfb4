"""Which ids a request names: none of them may reach an endpoint unseen."""

import orjson
import pytest

from router.base.errors import InvalidRequestError
from router.proxy.stateful.names import ids_of_form, named_ids
from router.proxy.stateful.paths import find_stored

FILE = {"type": "input_file", "file_id": "file-x"}
FORM = b"multipart/form-data; boundary=b"


@pytest.mark.parametrize("name", ["f", "item", "metadata", "schema", "parameters", "arguments", "attributes"])
def test_variables_of_a_prompt_are_named_by_the_client_and_read_by_the_endpoint(name: str) -> None:
    body = {"prompt": {"id": "pmpt_1", "variables": {name: FILE}}}
    assert named_ids(orjson.dumps(body)) == {"file-x": "file_id"}


def test_what_is_the_clients_own_names_nothing() -> None:
    body = {"metadata": FILE, "tools": [{"parameters": FILE}], "text": {"format": {"schema": FILE}}}
    assert named_ids(orjson.dumps(body)) == {}


@pytest.mark.parametrize(
    "body",
    [
        {"data_source": {"type": "completions", "source": {"type": "stored_completions", "limit": 100}}},
        {"data_source": {"type": "responses", "source": {"type": "responses", "model": "gpt-4o"}}},
        {"data_source": {"type": "stored_completions"}},
        {"data_source_config": {"type": "stored_completions", "metadata": {}}},
        {"data_source_config": {"type": "logs"}},
    ],
)
def test_nothing_reads_what_all_keys_have_stored(body: dict[str, object]) -> None:
    text = orjson.dumps(body)
    for each in (text, text.replace(b'"type"', rb'"t\u0079pe"'), text.replace(b'"type"', b'"type":"jsonl","type"')):
        with pytest.raises(InvalidRequestError) as caught:
            named_ids(each)
        assert caught.value.code == "shared_source"


@pytest.mark.parametrize(
    "body",
    [
        {"data_source": {"type": "responses", "source": {"type": "file_content", "content": []}}},
        {"data_source_config": {"type": "custom"}, "testing_criteria": [{"type": "python", "source": "logs"}]},
        {"source": {"type": ["logs"]}},
    ],
)
def test_other_sources_are_read(body: dict[str, object]) -> None:
    assert named_ids(orjson.dumps(body)) == {}


def form(*fields: tuple[str, str]) -> bytes:
    parts = (f'--b\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields)
    return "".join((*parts, "--b--\r\n")).encode()


def test_a_form_names_ids_as_json_does() -> None:
    assert ids_of_form(form(("file", "abc"), ("file_id", "file-x")), FORM) == {"file-x": "file_id"}
    assert ids_of_form(form(("file_ids[]", "file-x")), FORM) == {"file-x": "file_ids[]"}
    assert ids_of_form(form(("purpose", "batch"), ("file", "abc")), FORM) == {}


@pytest.mark.parametrize(
    "body", [b'{"file_id":"file-x"}', form(("file_id", "a"), ("file_id", "b")), form(("file_id", "a"))[:-6]]
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        ids_of_form(body, FORM)


@pytest.mark.parametrize("path", [b"/files/{}", b"/vector_stores/{}/files", b"/vector_stores/vs_1/files/{}"])
def test_the_tables_own_mark_is_no_id(path: bytes) -> None:
    assert find_stored(path) == {}


def test_a_bomb_of_values_is_refused_unread() -> None:
    for inner in (b"0,", b"{},", b"[],", b'{"a":0},'):
        body = b'{"file_id":"file-x","a":[' + inner * 400_000 + b"0]}"
        with pytest.raises(InvalidRequestError) as caught:
            named_ids(body)
        assert caught.value.code == "too_many_values"


def test_a_source_of_evals_names_its_file_whichever_type_counts() -> None:
    assert named_ids(b'{"source":{"type":"file_id","type":"x","id":"file-x"}}') == {"file-x": "id"}
