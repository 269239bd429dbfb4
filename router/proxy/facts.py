"""What a request's body says that matters for routing. Everything else in it stays bytes.

Where a field has to change, its place is proved before it is spliced: a key is taken by its bytes only where it stands
once and no escape could spell it a second time; otherwise the whole top level is tokenised. A field that is read here
and stands twice is refused, since the deployment might read the other one.
"""

import re
import zlib
from operator import attrgetter
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from router.base.errors import InvalidRequestError
from router.model.operation import Operation
from router.proxy.json_keys import top_level_values
from router.proxy.multipart import boundary_of, text_fields

Body = bytes | bytearray

AFFINITY_BYTES: Final = 1024
EMBEDDED_BYTES_MIN: Final = 4096  # a shorter body holds no file worth counting apart
EMBEDDED_LOOKS_MAX: Final = 4096  # for files in one body: some milliseconds
FILE_TOKENS: Final = 1000  # about what an image costs
FORM_TOKENS: Final = 1000
COMPLETION_TOKENS_MOST: Final = 1 << 24
CHOICES_MOST: Final = 128
_DIGITS_MAX: Final = len(str(COMPLETION_TOKENS_MOST))
# Of `;base64,` the three bytes that are rarest in texts: the search for them alone is several times as fast.
_BASE64_END: Final = b"64,"
_BASE64_BEGIN: Final = b";base"
LARGE_BYTES: Final = 2048  # a value of so many bytes is left out of the search for keys

_MODEL: Final = b'"model"'  # inside a string the quotes would be escaped
_COLON: Final = re.compile(rb"\s*:\s*")
# Escapes that can spell a letter or an underscore, so a key that is read here.
_ESCAPED_KEY: Final = re.compile(rb"\\u00[4-7]")
# What an endpoint stores, named by its id: the key's value is a string or a list of them.
_STORED_ID: Final = re.compile(rb'"(?:file_ids?|vector_store_ids?|container(?:_id)?)"\s*:\s*\[?\s*"')
_ESCAPE: Final = b"\\u00"  # how one of them begins
_FORM_FIELDS: Final = frozenset({b"model", b"stream"})


class Splice(msgspec.Struct, frozen=True, gc=False):
    """`body[start:end]` is to be replaced."""

    start: int
    end: int
    text: bytes = b""


class Facts(msgspec.Struct):
    """What routing knows of a request. It is the `Work` that balancing and limits look at."""

    model: str
    stream: bool = False
    wants_usage: bool = False  # the client asked for the usage chunk itself
    stores: bool = False  # an explicit `store: true`
    names_stored_state: bool = False  # something that only one endpoint has; files apart, see `names_file`
    model_at: Splice | None = None  # the value's span, quotes included in JSON; None: the body does not name it
    usage_at: Splice | None = None  # how `include_usage` is asked for; None: it is, or cannot be
    part_head: bytes = b""  # of a form that does not name the model: what stands before the name to be written
    prompt_tokens: int = 1  # an estimate from the body's length
    completion_tokens_max: int = 0  # all choices together; 0: not said
    affinity: int = 0  # set by the plan's policy, from `affinity_of`
    cache_key: str = ""  # the client's own `prompt_cache_key`
    leaves_nothing: bool = False  # an explicit `store: false`


class _StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


_NULL: Final = Raw(b"null")
_NOTHING: Final = frozenset({b"null", b'""', b"{}", b"[]", b"false", b"0"})


class _Fields(msgspec.Struct, gc=False):
    model: str | UnsetType | None = UNSET
    stream: bool | UnsetType | None = UNSET
    stream_options: _StreamOptions | UnsetType | None = UNSET
    store: bool | UnsetType | None = UNSET
    background: bool | UnsetType | None = UNSET
    # As bytes, since anything may stand there: made into objects, a list that fills the body would hold the loop.
    previous_response_id: Raw = _NULL
    conversation: Raw = _NULL
    # Read for estimates only: whatever else stands there is for the deployment to judge.
    max_tokens: Raw = _NULL
    max_completion_tokens: Raw = _NULL
    max_output_tokens: Raw = _NULL
    n: Raw = _NULL
    prompt_cache_key: Raw = _NULL
    # What fills a body. Nothing in them is a key of the top level.
    messages: Raw = _NULL
    input: Raw = _NULL
    prompt: Raw = _NULL


_decode: Final = msgspec.json.Decoder(_Fields).decode
_decode_text: Final = msgspec.json.Decoder(str).decode
# What is read beside the model and acted on: none of it may stand twice.
_OTHERS: Final = ("stream", "stream_options", "store", "background", "previous_response_id", "conversation")
_others: Final = attrgetter(*_OTHERS)
_NO_OTHERS: Final = (UNSET, UNSET, UNSET, UNSET, _NULL, _NULL)
_more: Final = attrgetter(*_OTHERS, "max_tokens", "max_completion_tokens", "max_output_tokens", "prompt_cache_key")
_NO_MORE: Final = (*_NO_OTHERS, _NULL, _NULL, _NULL, _NULL)


def json_facts(body: Body, operation: Operation, path_model: str | None) -> Facts:
    """Reads a JSON body. Raises InvalidRequestError that names the field at fault."""
    if not body.isascii():
        _check_utf_8(body)
    try:
        fields = _decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_type(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    except RecursionError:
        raise InvalidRequestError("The body is nested too deeply.", code="invalid_json") from None
    named = fields.model if isinstance(fields.model, str) else None
    model = path_model or named
    if not model:
        raise InvalidRequestError("The body names no `model`.", code="missing_model", param="model")
    plain = _more(fields) == _NO_MORE  # the model is all that the body says to us
    model_at = _proven_place(body, named, fields, plain)
    if model_at is None:
        model_at = _exact_place(body)
    if plain:
        return Facts(model, False, False, False, False, model_at, None, b"", prompt_tokens(body))
    stream = fields.stream is True
    options = fields.stream_options
    wants_usage = isinstance(options, _StreamOptions) and options.include_usage is True
    usage_at = _usage_place(body, options) if stream and operation.asks_usage and not wants_usage else None
    return Facts(
        model,
        stream,
        wants_usage,
        fields.store is True or fields.background is True,
        _names_stored_state(fields),
        model_at,
        usage_at,
        b"",
        prompt_tokens(body),
        _completion_tokens_max(fields),
        0,
        _cache_key(fields.prompt_cache_key) if fields.prompt_cache_key is not _NULL else "",
        fields.store is False,
    )


def form_facts(body: Body, content_type: bytes, path_model: str | None) -> Facts:
    """Reads a multipart body. Raises InvalidRequestError."""
    boundary = boundary_of(content_type)
    spans = text_fields(body, boundary, _FORM_FIELDS)
    span = spans.get(b"model")
    named = _text(body, span, "model") if span is not None else None
    model = path_model or named
    if not model:
        raise InvalidRequestError("The form has no `model` field.", code="missing_model", param="model")
    stream = spans.get(b"stream")
    part_head = b""
    if span is None:
        part_head = b'--%b\r\nContent-Disposition: form-data; name="model"\r\n\r\n' % boundary
    return Facts(
        model=model,
        stream=stream is not None and _text(body, stream, "stream").lower() in ("true", "1"),
        model_at=Splice(*span) if span is not None else None,
        part_head=part_head,
        prompt_tokens=FORM_TOKENS,
    )


def prompt_tokens(body: Body) -> int:
    """Estimates a JSON body's prompt: four bytes a token, and a fixed price for each embedded file. At least 1."""
    length = len(body)
    if length < EMBEDDED_BYTES_MIN:
        return (length >> 2) + 1
    files = 0
    at, looks = body.find(_BASE64_END), 0
    while at >= 0 and looks < EMBEDDED_LOOKS_MAX:
        looks += 1
        end = at + len(_BASE64_END)
        if body.endswith(_BASE64_BEGIN, 0, at):
            end = body.find(b'"', at)
            end = end if end >= 0 else len(body)
            length -= end - at
            files += 1
        at = body.find(_BASE64_END, end)
    return (length >> 2) + files * FILE_TOKENS + 1


def affinity_of(facts: Facts, body: Body) -> int:
    """What requests have in common that may share a prompt cache: the client's word, or how their bodies begin."""
    if facts.cache_key:
        return zlib.crc32(facts.cache_key.encode("utf-8", "replace")) or 1
    return zlib.crc32(memoryview(body)[:AFFINITY_BYTES]) or 1


def _completion_tokens_max(fields: _Fields) -> int:
    for said in (fields.max_completion_tokens, fields.max_tokens, fields.max_output_tokens):
        if said is not _NULL and 0 < (most := _count(said)) <= COMPLETION_TOKENS_MOST:
            choices = _count(fields.n) if fields.n is not _NULL else 1
            return most * choices if 1 < choices <= CHOICES_MOST else most
    return 0


def _count(raw: Raw) -> int:
    """A whole number of at most eight digits; 0 for everything else."""
    digits = bytes(raw)
    return int(digits) if len(digits) <= _DIGITS_MAX and digits.isdigit() else 0


def _cache_key(raw: Raw) -> str:
    """The client's text; empty for everything else."""
    try:
        return _decode_text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""


def _text(body: Body, span: tuple[int, int], name: str) -> str:
    try:
        return bytes(body[span[0] : span[1]]).decode()
    except UnicodeDecodeError:
        raise InvalidRequestError(f"The field `{name}` is not UTF-8.", param=name) from None


def _wrong_type(text: str) -> InvalidRequestError:
    """Msgspec's text names the path, `$.stream`, and the types; never a value."""
    path = text.rsplit("`$.", 1)[1].rstrip("`") if "`$." in text else None
    if path is None:
        return InvalidRequestError("The body must be a JSON object.", code="invalid_json")
    return InvalidRequestError(f"{text.split(' - ', 1)[0]} for `{path}`.", code="invalid_type", param=path)


def _proven_place(body: Body, named: str | None, fields: _Fields, plain: bool) -> Splice | None:
    """Returns where the model's value stands; None where bytes alone do not prove it. `plain`: it is all that we read.

    Proof: no escape could spell a key a second time, each key that was read here stands in the body exactly once (so
    nowhere nested, and not twice), and behind `"model":` stands the very value that the decoder read. A large value
    is left out of the search: what is in it is nested.
    """
    if named is None:
        return None
    skip, on = _large_value(body, fields) if len(body) > LARGE_BYTES else (len(body), len(body))
    if (body.find(92, 0, skip) >= 0 or body.find(92, on) >= 0) and (  # 92: a backslash
        _ESCAPED_KEY.search(body, 0, skip) is not None or _ESCAPED_KEY.search(body, on) is not None
    ):
        return None
    # In whatever case: there are readers of JSON who take `Model` for the same.
    found = body.lower().count(_MODEL) if skip == len(body) else _count_outside(body, skip, on)
    if found != 1:
        return None
    at = body.find(_MODEL, 0, skip)
    at = at if at >= 0 else body.find(_MODEL, on)
    if at < 0:
        return None
    at += len(_MODEL)
    if not plain:
        for name, value, nothing in zip(_OTHERS, _others(fields), _NO_OTHERS, strict=True):
            if value is not nothing:
                key = b'"%b"' % name.encode()
                if body.count(key, 0, skip) + body.count(key, on) != 1:
                    return None
    value = b'"%b"' % named.encode()
    if body.startswith(value, at + 1) and body[at] == 58:  # 58: a colon, and no white space: what most SDKs write
        return Splice(at + 1, at + 1 + len(value))
    colon = _COLON.match(body, at)
    if colon is None:
        return None
    start = colon.end()
    return Splice(start, start + len(value)) if body.startswith(value, start) else None


def _count_outside(body: Body, skip: int, on: int) -> int:
    return body[:skip].lower().count(_MODEL) + body[on:].lower().count(_MODEL)


def _check_utf_8(body: Body) -> None:
    """The decoder looks at what it wants; another reader might take a cut letter and the quote behind it for one."""
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequestError(f"The body is not UTF-8 (byte {error.start}).", code="invalid_json") from None


def _size(named: tuple[Raw, bytes]) -> int:
    return memoryview(named[0]).nbytes


def _large_value(body: Body, fields: _Fields) -> tuple[int, int]:
    """Returns where the body's largest value begins and ends; where that is not sure, twice the body's end.

    Quotes that are not escaped stand around names and strings alone, and behind a name and its colon stands one value:
    where that begins with all bytes of one which the decoder read, it is one like it, at whatever depth, and what is in
    it is deeper.
    """
    raw, key = max(
        ((fields.messages, b'"messages":'), (fields.input, b'"input":'), (fields.prompt, b'"prompt":')), key=_size
    )
    value = bytes(raw)
    at = body.find(key) + len(key)
    if at >= len(key) and value.startswith((b"[", b"{", b'"')):
        at += body.startswith(b" ", at)
        if body.startswith(value, at):
            return at, at + len(value)
    return len(body), len(body)


def _exact_place(body: Body) -> Splice | None:
    """Returns where the model's value stands by tokenising the top level; None where the body names none.

    Raises InvalidRequestError where a field that is read here stands twice.
    """
    places = top_level_values(body)
    if sum(name.lower() == "model" for name in places) > ("model" in places):
        raise _stands_twice("model")
    for name in ("model", *_OTHERS):
        if len(places.get(name, ())) > 1:
            raise _stands_twice(name)
    return Splice(*places["model"][0]) if "model" in places else None


def _stands_twice(name: str) -> InvalidRequestError:
    return InvalidRequestError(f"The field `{name}` stands more than once.", code="duplicate_key", param=name)


def _usage_place(body: Body, options: _StreamOptions | UnsetType | None) -> Splice:
    """Where and how to write `include_usage: true`: as a new field, or merged into the client's own options."""
    if options is UNSET:
        at = body.index(b"{") + 1
        return Splice(at, at, b'"stream_options":{"include_usage":true},')
    start, end = top_level_values(body)["stream_options"][0]
    if options is None:
        return Splice(start, end, b'{"include_usage":true}')
    inner = top_level_values(body[start:end])
    own = inner.get("include_usage", [])
    if len(own) > 1:
        raise _stands_twice("stream_options.include_usage")
    if own:
        return Splice(start + own[0][0], start + own[0][1], b"true")
    return Splice(start + 1, start + 1, b'"include_usage":true' + (b"," if inner else b""))


def _names_one(raw: Raw) -> bool:
    return raw is not _NULL and bytes(raw) not in _NOTHING


def _names_stored_state(fields: _Fields) -> bool:
    return fields.background is True or _names_one(fields.previous_response_id) or _names_one(fields.conversation)


def names_file(body: Body, words: tuple[bytes, ...]) -> bool:
    """Whether a body names what one endpoint stores. `words`: one of them stands in each body that does."""
    # Words that few bodies have are found in a tenth of the time that the whole expression takes. By `find`: to `in`,
    # bytes might be a number, and that they are none costs it an exception.
    for word in words:
        if body.find(word) >= 0:
            return _STORED_ID.search(body) is not None or _ESCAPED_KEY.search(body) is not None
    # Most bodies without a backslash are done with in 40 ns; an escape could spell a key otherwise. 92: a backslash.
    if words and body.find(92) >= 0 and body.find(_ESCAPE) >= 0:
        return _ESCAPED_KEY.search(body) is not None
    return False
