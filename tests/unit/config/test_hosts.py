"""A host is a cloud's own, or it is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.hosts import BUILT_IN, host_fault, is_internal, is_loopback, matches, overlap, parse_base_url
from router.model.fleet import BaseUrl

label = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("host", "cloud"),
    [
        ("contoso.openai.azure.com", "azure"),
        ("a.b.openai.azure.com", "azure"),
        ("x.cognitiveservices.azure.com", "azure"),
        ("x.services.ai.azure.com", "azure"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws"),
        ("bedrock-mantle.eu-west-1.api.aws", "aws"),
        ("us-central1-aiplatform.googleapis.com", "google"),
        ("aiplatform.googleapis.com", "google"),
        ("inference.generativeai.us-chicago-1.oci.oraclecloud.com", "oracle"),
        ("modeldeployment.eu-frankfurt-1.oci.customer-oci.com", "oracle"),
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("api.inference.wandb.ai", "coreweave"),
        ("openai.azure.com", None),
        ("evilopenai.azure.com", None),
        ("contoso.openai.azure.com.evil.org", None),
        ("contoso.azure-api.net", None),
        ("bedrock-runtime.a.b.amazonaws.com", None),
        ("bedrock-runtime.amazonaws.com", None),
        ("s3.us-east-1.amazonaws.com", None),
        ("xbedrock-runtime.us-east-1.amazonaws.com", None),
        ("-aiplatform.googleapis.com", None),
        ("a.b-aiplatform.googleapis.com", None),
        ("storage.googleapis.com", None),
        ("openai.com", None),
        ("xapi.openai.com", None),
    ],
)
def test_built_in_hosts(host: str, cloud: str | None) -> None:
    found = [name for name, patterns in BUILT_IN.items() if any(matches(host, pattern) for pattern in patterns)]
    assert found == ([cloud] if cloud else [])


@given(st.lists(label, min_size=1, max_size=4), st.sampled_from(["contoso.example", "openai.azure.com", "a.b.c"]))
def test_a_wildcard_matches_whole_labels_to_its_left_alone(labels: list[str], suffix: str) -> None:
    pattern = f"*.{suffix}"
    assert matches(".".join((*labels, suffix)), pattern)
    assert not matches("".join(labels) + suffix, pattern)
    assert not matches(suffix, pattern)
    assert not matches(".".join((*labels, suffix, "evil")), pattern)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("*.azure.com", "*.openai.azure.com", True),
        ("a.openai.azure.com", "*.openai.azure.com", True),
        ("openai.azure.com", "*.openai.azure.com", False),
        ("*.us-east-1.amazonaws.com", "bedrock-runtime.*.amazonaws.com", True),
        ("*.googleapis.com", "*-aiplatform.googleapis.com", True),
        ("storage.googleapis.com", "*-aiplatform.googleapis.com", False),
        ("a.example.com", "b.example.com", False),
        ("*.a.example.com", "*.b.example.com", False),
        ("10.1.2.3", "10.1.2.3", True),
    ],
)
def test_overlap_finds_hosts_of_two_patterns(one: str, other: str, same: bool) -> None:
    assert overlap(one, other) is same
    assert overlap(other, one) is same


def test_no_two_clouds_share_a_built_in_host() -> None:
    pairs = [(cloud, pattern) for cloud, patterns in BUILT_IN.items() for pattern in patterns]
    assert not [(a, b) for a in pairs for b in pairs if a[0] != b[0] and overlap(a[1], b[1])]


LOOPBACK = ("127.0.0.1", "127.8.9.1", "::1", "localhost")
INTERNAL = ("10.0.0.1", "192.168.1.1", "172.16.0.9", "169.254.169.254", "fe80::1", "fd00:ec2::254", "100.64.0.1")


@pytest.mark.parametrize("host", [*LOOPBACK, *INTERNAL, "a.localhost", "::ffff:10.0.0.1", "0.0.0.0", "::"])
def test_internal_addresses(host: str) -> None:
    assert is_internal(host)
    assert is_loopback(host) == (host in LOOPBACK)


@pytest.mark.parametrize("host", ["8.8.8.8", "example.com", "2606:4700::1111", "localhost.example.com"])
def test_public_hosts(host: str) -> None:
    assert not is_internal(host)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "1.2.3.4.5", "a..b", ".a", "a.", "a_b.c", ""]
)
def test_hosts_that_a_resolver_might_read_otherwise_are_refused(host: str) -> None:
    assert host_fault(host)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://x.example.com", ("https", "x.example.com", 443, "")),
        ("https://X.Example.com:8443/v1/", ("https", "x.example.com", 8443, "/v1")),
        ("http://[::1]:9/a/b", ("http", "::1", 9, "/a/b")),
    ],
)
def test_base_urls(text: str, parts: tuple[str, str, int, str]) -> None:
    assert parse_base_url(text) == BaseUrl(*parts)


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_is_explained_without_being_quoted(text: str) -> None:
    found = parse_base_url(f"https://{text}")
    if isinstance(found, str):
        assert found
    else:
        assert found.host in text.lower()
        assert not host_fault(found.host)
