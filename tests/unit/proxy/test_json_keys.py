"""Where the values of a JSON object stand."""

import pytest

from router.base.errors import InvalidRequestError
from router.proxy.json_keys import top_level_values


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"{}", {}),
        (b" { } ", {}),
        (b'{"a":1}', {"a": [b"1"]}),
        (b' {\n"a" : 1 ,\t"b" : [ ] } ', {"a": [b"1"], "b": [b"[ ]"]}),
        (b'{"a":{"b":1,"c":[{"b":2}]},"b":3}', {"a": [b'{"b":1,"c":[{"b":2}]}'], "b": [b"3"]}),
        (b'{"a":1,"a":2,"\\u0061":3}', {"a": [b"1", b"2", b"3"]}),
        (b'{"a":"x,\\"b\\":{","b":"\\\\"}', {"a": [b'"x,\\"b\\":{"'], "b": [b'"\\\\"']}),
        (b'{"a":[1,[2,3],4],"b":[[1,2],[3]],"c":null}', {"a": [b"[1,[2,3],4]"], "b": [b"[[1,2],[3]]"], "c": [b"null"]}),
        (b'{"a":[1,"]",2],"b":-1.5e3}', {"a": [b'[1,"]",2]'], "b": [b"-1.5e3"]}),
        (b'{"":1," ":{}}', {"": [b"1"], " ": [b"{}"]}),
        ('{"ä":"ö"}'.encode(), {"ä": ['"ö"'.encode()]}),
        (b'{"a":[\n1\n,\n2\n]}', {"a": [b"[\n1\n,\n2\n]"]}),
    ],
)
def test_each_value_is_found_by_its_decoded_key(body: bytes, found: dict[str, list[bytes]]) -> None:
    for each in (body, bytearray(body)):
        spans = top_level_values(each)
        assert {key: [body[a:b] for a, b in places] for key, places in spans.items()} == found


@pytest.mark.parametrize("key", [b'"\xff"', b'"a\xc3"'])
def test_a_key_that_is_not_utf_8_is_refused(key: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        top_level_values(b"{" + key + b":1}")
