"""Bodies made to be read in two ways, or to hold the loop: each is a 400, and costs no more than reading it once."""

import contextlib
from time import process_time

import pytest

from router.base.errors import InvalidRequestError
from router.model.operation import CHAT
from router.proxy.facts import form_facts, json_facts, prompt_tokens

MIB = 1 << 20

# name: body, code of the refusal; None: it is taken, by the model `a`
JSON: dict[str, tuple[bytes, str | None]] = {
    "model twice": (b'{"model":"a","model":"b"}', "duplicate_key"),
    "model twice, the same": (b'{"model":"a","model":"a"}', "duplicate_key"),
    "model twice, one escaped": (b'{"model":"a","\\u006dodel":"b"}', "duplicate_key"),
    "model twice, in upper case": (b'{"model":"a","Model":"b"}', "duplicate_key"),
    "model twice, upper case first": (b'{"MODEL":"b","model":"a"}', "duplicate_key"),
    "model twice, an escaped capital": (b'{"model":"a","\\u004dodel":"b"}', "duplicate_key"),
    "no model but in upper case": (b'{"Model":"b"}', "missing_model"),
    "model and null": (b'{"model":"a","model":null}', "missing_model"),
    "model in an object": (b'{"x":{"model":"b","Model":"c"},"model":"a"}', None),
    "model in a text": (b'{"x":"\\"model\\":\\"b\\"","model":"a"}', None),
    "model as a value": (b'{"x":"model","model":"a"}', None),
    "another name with a space": (b'{"model ":"b","model":"a"}', None),
    "bad UTF-8 in a text": (b'{"model":"a","x":"\xff"}', "invalid_json"),
    "bad UTF-8 in the messages": (b'{"model":"a","messages":[{"content":"\xe2"}]}', "invalid_json"),
    "a cut letter that would take the quote": (b'{"model":"a","x":"\xe2","model":"b"}', "invalid_json"),
    "overlong slash": (b'{"model":"a","x":"\xc0\xaf"}', "invalid_json"),
    "encoded surrogate": (b'{"model":"a","x":"\xed\xa0\x80"}', "invalid_json"),
    "good UTF-8": ('{"model":"a","x":"é€𝄞"}'.encode(), None),
    "mark of byte order": (b'\xef\xbb\xbf{"model":"a"}', "invalid_json"),
    "UTF-16": ('{"model":"a"}'.encode("utf-16"), "invalid_json"),
    "NaN": (b'{"model":"a","x":NaN}', "invalid_json"),
    "infinity": (b'{"model":"a","x":-Infinity}', "invalid_json"),
    "bytes behind": (b'{"model":"a"}x', "invalid_json"),
    "NUL behind": (b'{"model":"a"}\0', "invalid_json"),
    "two objects": (b'{"model":"a"}{"model":"b"}', "invalid_json"),
    "comma at the end": (b'{"model":"a",}', "invalid_json"),
    "comment": (b'{"model":"a"/*,"model":"b"*/}', "invalid_json"),
    "single quotes": (b"{'model':'a'}", "invalid_json"),
    "line end in a text": (b'{"model":"a","x":"\n"}', "invalid_json"),
    "NUL in a name": (b'{"model":"a","x\0":1}', "invalid_json"),
    "unknown escape": (b'{"model":"a","x":{"y":"\\q"}}', "invalid_json"),
    "leading zero": (b'{"model":"a","x":01}', "invalid_json"),
    "plus": (b'{"model":"a","x":+1}', "invalid_json"),
    "array": (b'[{"model":"a"}]', "invalid_json"),
    "deep array": (b'{"model":"a","x":' + b"[" * MIB + b"]" * MIB + b"}", "invalid_json"),
    "deep object": (b'{"model":"a","x":' + b'{"a":' * MIB + b"1" + b"}" * MIB + b"}", "invalid_json"),
    "never closed": (b'{"model":"a","messages":' + b"[" * MIB, "invalid_json"),
    "huge number": (b'{"model":"a","x":' + b"9" * MIB + b"}", None),
    "huge number that is read": (b'{"model":"a","max_tokens":' + b"9" * MIB + b"}", None),
    "huge exponent": (b'{"model":"a","temperature":1e' + b"9" * MIB + b"}", None),
    "long text": (b'{"model":"a","x":"' + b"x" * MIB + b'"}', None),
    "many escapes": (b'{"model":"a","x":"' + b"\\u0041" * (MIB // 6) + b'"}', None),
    "many names": (b'{"model":"a"' + b"".join(b',"k%d":1' % n for n in range(MIB // 10)) + b"}", None),
    "many names and a doubt": (
        b'{"model":"a","\\u0061":1' + b"".join(b',"k%d":1' % n for n in range(MIB // 10)) + b"}",
        "body_too_complex",
    ),
    "many models inside": (
        b'{"model":"a","x":[' + b",".join([b'{"model":1}'] * (MIB // 12)) + b"]}",
        "body_too_complex",
    ),
    "many ends of base64": (b'{"model":"a","x":"' + b"64," * (MIB // 3) + b'"}', None),
    "many files": (b'{"model":"a","x":"' + b";base64," * (MIB // 8) + b'"}', None),
}


@pytest.mark.parametrize("name", JSON)
def test_a_body_is_read_in_one_way_or_refused(name: str) -> None:
    body, code = JSON[name]
    if code is None:
        facts = json_facts(bytearray(body), CHAT, None)
        assert facts.model == "a"
        assert facts.model_at is not None
        assert body[facts.model_at.start : facts.model_at.end] == b'"a"'
        return
    with pytest.raises(InvalidRequestError) as refused:
        json_facts(bytearray(body), CHAT, None)
    assert (refused.value.status, refused.value.code) == (400, code)


@pytest.mark.timed
def test_no_megabyte_of_json_holds_the_loop() -> None:
    """Some milliseconds each on a machine of its own; the bound leaves room for a noisy one."""
    for name, (body, code) in JSON.items():
        best = min(_cost_s(body) for _ in range(3))
        assert best < 0.25, f"{name}: {best:.3f} s, {code}"


def _cost_s(body: bytes) -> float:
    began = process_time()
    with contextlib.suppress(InvalidRequestError):
        json_facts(body, CHAT, None)
    return process_time() - began


def test_looks_for_files_have_a_bound() -> None:
    """What is not looked at counts as text: an estimate that is too high."""
    body = b"64," * MIB
    began = process_time()
    assert prompt_tokens(body) == len(body) // 4 + 1
    assert process_time() - began < 1.0


MODEL = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
END = b"--b--\r\n"


def part(head: bytes, content: bytes = b"x") -> bytes:
    return b"--b\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


def named(parameters: bytes) -> bytes:
    return part(b"Content-Disposition: form-data" + parameters)


FILE = b'Content-Disposition: form-data; name="file"; filename="a.wav"'

FORMS: dict[str, tuple[bytes, str | None]] = {
    "a file": (MODEL + part(FILE) + END, None),
    "a file name in UTF-8": (MODEL + named('; name="file"; filename="é.wav"'.encode()) + END, None),
    "a list": (MODEL + named(b'; name="timestamp_granularities[]"') + END, None),
    "an encoded file name": (MODEL + named(b"; name=\"file\"; filename*=utf-8''a%20b.wav") + END, None),
    "model twice": (MODEL + MODEL + END, "duplicate_key"),
    "model twice, no quotes": (MODEL + named(b"; name=model") + END, "duplicate_key"),
    "model twice, an escape": (MODEL + named(b'; name="mo\\del"') + END, "duplicate_key"),
    "model twice, upper case": (MODEL + named(b'; name="Model"') + END, "invalid_form"),
    "model twice, single quotes": (MODEL + named(b"; name='model'") + END, "invalid_form"),
    "model twice, with a NUL": (MODEL + named(b'; name="model\0"') + END, "invalid_form"),
    "model twice, with a space": (MODEL + named(b'; name="model "') + END, "invalid_form"),
    "model twice, encoded name": (MODEL + named(b"; name*=utf-8''model") + END, "invalid_form"),
    "model twice, encoded word": (MODEL + named(b'; name="=?utf-8?q?model?="') + END, "invalid_form"),
    "no semicolon": (MODEL + named(b' name="model"') + END, "invalid_form"),
    "a comma": (MODEL + named(b', name="model"') + END, "invalid_form"),
    "quote not closed": (MODEL + named(b'; name="x; name=model') + END, "invalid_form"),
    "two names": (MODEL + named(b'; name="x"; name="model"') + END, "invalid_form"),
    "two dispositions": (
        MODEL + part(b'Content-Disposition: form-data; name="x"\r\nContent-Disposition: form-data; name="model"') + END,
        "invalid_form",
    ),
    "a folded line": (MODEL + named(b';\r\n name="model"') + END, "invalid_form"),
    "a bare LF": (MODEL + part(b"X: y\nContent-Disposition: form-data; name=model") + END, "invalid_form"),
    "base64": (
        part(b'Content-Disposition: form-data; name="model"\r\nContent-Transfer-Encoding: base64') + END,
        "invalid_form",
    ),
    "a part behind a bare LF": (MODEL + part(FILE, b"y\n--b\r\n" + MODEL[5:-2]) + END, "invalid_form"),
    "a boundary with white space": (MODEL + part(FILE, b"y\r\n--b \r\n" + MODEL[5:-2]) + END, "invalid_form"),
    "a boundary that goes on": (MODEL + part(FILE, b"y\r\n--bb\r\n" + MODEL[5:-2]) + END, "invalid_form"),
    "bytes before": (b"x\r\n" + MODEL + END, "invalid_form"),
    "a form behind the form": (MODEL + END + MODEL + END, "invalid_form"),
    "not closed": (MODEL, "invalid_form"),
    "a huge part head": (MODEL + part(b"x: " + b"y" * 9000) + END, "invalid_form"),
    "many part heads": (MODEL + part(b"x: " + b"y" * 8000) * 40 + END, "invalid_form"),
    "too many parts": (MODEL + part(FILE) * 1000 + END, "invalid_form"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_is_read_in_one_way_or_refused(name: str) -> None:
    body, code = FORMS[name]
    content_type = b"multipart/form-data; boundary=b"
    if code is None:
        assert form_facts(body, content_type, None).model == "whisper-1"
        return
    with pytest.raises(InvalidRequestError) as refused:
        form_facts(body, content_type, None)
    assert (refused.value.status, refused.value.code) == (400, code)


@pytest.mark.timed
def test_no_form_holds_the_loop() -> None:
    """Quotes that are never closed make each look for one go to the end of its head."""
    body = MODEL + named(b';a="' * 1990) * 100 + MODEL
    best = 1.0
    for _ in range(3):
        began = process_time()
        with pytest.raises(InvalidRequestError):
            form_facts(body, b"multipart/form-data; boundary=b", None)
        best = min(best, process_time() - began)
    assert best < 0.25
