"""Forms: where their text fields stand, and that no form can be read in two ways."""

from time import perf_counter

import pytest

from router.base.errors import InvalidRequestError
from router.proxy.facts import form_facts
from router.proxy.multipart import boundary_of, text_fields

TYPE = b"multipart/form-data; boundary=b"
WANTED = frozenset({b"model", b"stream"})


def part(name: bytes, value: bytes, more: bytes = b"") -> bytes:
    return b'--b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (name, more, value)


FILE = part(b"file", b"\0\xff\r\n\r\n--bx\n", b'; filename="a.mp3"\r\nContent-Type: audio/mpeg').replace(
    b"--bx", b"-b-"
)
END = b"--b--\r\n"


def fields(body: bytes) -> dict[bytes, bytes]:
    return {name: body[start:end] for name, (start, end) in text_fields(body, b"b", WANTED).items()}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (part(b"model", b"gpt-4o") + END, {b"model": b"gpt-4o"}),
        (FILE + part(b"model", b"gpt-4o") + part(b"stream", b"true") + END, {b"model": b"gpt-4o", b"stream": b"true"}),
        (part(b"model", b"gpt-4o") + FILE + b"--b--", {b"model": b"gpt-4o"}),
        (part(b"model", b"") + END, {b"model": b""}),
        (part(b"model", b"a\r\nb\r\n") + END, {b"model": b"a\r\nb\r\n"}),
        (part(b"file", b'name="model"', b'; filename="; name=model"') + END, {}),
        (part(b"file", b"x", b'; filename="a\\"; name=\\"model\\""') + END, {}),
        (b'--b\r\ncontent-disposition:form-data;NAME="model"\r\n\r\na\r\n' + END, {b"model": b"a"}),
        (b"--b\r\nContent-Disposition: form-data; name=model\r\n\r\na\r\n" + END, {b"model": b"a"}),
        (b'--b\r\nContent-Disposition: form-data; name="mo\\del"\r\n\r\na\r\n' + END, {b"model": b"a"}),
        (b'--b\r\nX: y\r\nContent-Disposition: form-data; a=b; name="model"\r\n\r\na\r\n' + END, {b"model": b"a"}),
        (b"--b\r\n\r\nno head\r\n" + part(b"model", b"a") + END, {b"model": b"a"}),
        (END, {}),
    ],
)
def test_fields_are_found(body: bytes, found: dict[bytes, bytes]) -> None:
    assert fields(body) == found


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"model=gpt-4o",
        b"\r\n" + part(b"model", b"a") + END,
        b"preamble\r\n" + part(b"model", b"a") + END,
        part(b"model", b"a"),
        part(b"model", b"a")[:-2],
        part(b"model", b"a") + b"--b",
        part(b"model", b"a") + b"--b-",
        part(b"model", b"a") + b"--b\r\n",
        part(b"model", b"a") + b"--bb--\r\n",
        part(b"model", b"a") + END + part(b"model", b"b") + END,
        part(b"other", b"--b") + END,
        part(b"file", b"x\r\n--bx\r\ny") + END,  # a file must not hold the boundary, not even with more behind it
        part(b"model", b"a").replace(b"\r\n", b"\n") + b"--b--\n",
        b'--b\r\nContent-Disposition: form-data; name="model"\n\na\r\n' + END,
        b'--b\r\nContent-Disposition: form-data; name="x"\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n'
        + END,
        b'--b\r\nContent-Disposition: form-data;\r\n name="model"\r\n\r\na\r\n' + END,
        b'--b\r\nContent-Disposition: form-data; name="x"; name="model"\r\n\r\na\r\n' + END,
        b'--b\r\nContent-Disposition: form-data; name="x"\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n'
        + END,
        b"--b\r\nContent-Disposition: form-data; name*=utf-8''model\r\n\r\na\r\n" + END,
        b"--b \r\n" + part(b"model", b"a")[5:] + END,
        b"--b\r\nX: " + b"y" * 9000 + b"\r\n\r\na\r\n" + END,
    ],
)
def test_a_form_that_two_readers_could_take_for_two_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        fields(body)
    assert caught.value.status == 400


@pytest.mark.parametrize("name", [b"model", b"stream"])
@pytest.mark.parametrize("again", [b'"%b"', b"%b", b'"\\%b"'])
def test_a_field_that_stands_twice_is_refused(name: bytes, again: bytes) -> None:
    second = b"--b\r\nContent-Disposition: form-data; name=" + again % name + b"\r\n\r\nx\r\n"
    with pytest.raises(InvalidRequestError) as caught:
        fields(part(name, b"a") + FILE + second + END)
    assert (caught.value.code, caught.value.param) == ("duplicate_key", name.decode())


def test_what_is_not_wanted_may_stand_twice() -> None:
    assert fields(part(b"image[]", b"a") * 2 + part(b"model", b"m") + END) == {b"model": b"m"}


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        (TYPE, b"b"),
        (b'Multipart/Form-Data; charset=utf-8; BOUNDARY="a b"', b"a b"),
        (b"multipart/form-data;boundary=----WebKitFormBoundaryx", b"----WebKitFormBoundaryx"),
        (b'multipart/form-data; x="; boundary=no"; boundary=yes', b"yes"),
        (b"multipart/form-data; xboundary=no; boundary=yes", b"yes"),
    ],
)
def test_the_boundary_is_the_parameters_own(content_type: bytes, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        b"",
        b"application/json",
        b"multipart/form-data",
        b"multipart/mixed; boundary=b",
        b"multipart/form-data; boundary=",
        b"multipart/form-data; boundary=" + b"b" * 71,
        b"multipart/form-data; boundary=a; boundary=b",
        b"multipart/form-data boundary=b",
        b"multipart/form-data; xboundary=b",
    ],
)
def test_a_type_without_one_boundary_is_refused(content_type: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        boundary_of(content_type)
    assert caught.value.code == "invalid_content_type"


def test_a_form_of_very_many_parts_is_refused_in_no_time() -> None:
    began = perf_counter()
    for body in (b"--b" + b"\r\n\r\n\r\n--b" * 1_000_000 + b"--", b"--b\r\n\r\n" * 1_000_000 + b"\r\n--b--"):
        with pytest.raises(InvalidRequestError):
            form_facts(body, TYPE, None)
    assert perf_counter() - began < 1.0


@pytest.mark.parametrize(
    ("value", "stream"), [(b"true", True), (b"True", True), (b"1", True), (b"false", False), (b"", False)]
)
def test_a_forms_facts(value: bytes, stream: bool) -> None:
    body = FILE + part(b"model", b"whisper-1") + part(b"stream", value) + END
    found = form_facts(body, TYPE, None)
    assert (found.model, found.stream) == ("whisper-1", stream)
    assert found.model_at is not None
    assert body[found.model_at.start : found.model_at.end] == b"whisper-1"
    assert form_facts(body, TYPE, "other").model == "other"


@pytest.mark.parametrize("model", [b"", b"\xff\xfe"])
def test_a_form_without_a_readable_model_is_refused(model: bytes) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        form_facts(part(b"model", model) + END, TYPE, None)
    assert caught.value.param == "model"
