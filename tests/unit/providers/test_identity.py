"""How endpoints are told who we are: keys, tokens with an end, and signatures that an independent reading accepts."""

import asyncio
import base64
import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.base.clock import ManualClock, SystemClock
from router.emulator.credentials.check import Problem
from router.emulator.credentials.known import AwsKeys, OciKey
from router.emulator.credentials.oci_signature import OciSignatureCheck
from router.emulator.credentials.sigv4 import SigV4Check
from router.emulator.received import Request
from router.model.fleet import (
    AuthKind,
    AwsSource,
    BaseUrl,
    Credential,
    Endpoint,
    EntraSource,
    GoogleSource,
    OciPrincipal,
    OciSource,
    Secret,
)
from router.providers import identity as identities
from router.providers.credentials import Token, TokenIdentity, described, header_lines
from router.providers.identity import Identity, IdentityError, make_identity, missing_extra

URL = BaseUrl("https", "cloud.example", 443, "/openai/v1")
HOST, TARGET = b"cloud.example", b"/openai/v1/chat/completions"
HEADERS = ((b"content-type", b"application/json"), (b"accept", b"*/*"), (b"content-length", b"21"))
BODY = (b'{"model":"m",', memoryview(b'"stream":'), b"true}")
LAW = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def identity_of(credential: Credential) -> Identity:
    return make_identity(Endpoint("e", "aws", "bedrock", URL, credential), ManualClock(), random.Random(1))


def as_received(identity: Identity, target: bytes = TARGET, body: tuple[bytes | memoryview, ...] = BODY) -> Request:
    """The signed request as a server reads it."""
    length = b"%d" % sum(map(len, body))
    lines = identity.sign(b"POST", HOST, target, HEADERS, body)
    assert lines.endswith(b"\r\n")
    headers = [(b"host", HOST), *HEADERS[:2], (b"content-length", length)]
    headers += [tuple(line.split(b": ", 1)) for line in lines.removesuffix(b"\r\n").split(b"\r\n")]
    read = [(name.decode(), value.decode()) for name, value in headers]
    return Request("POST", target.decode(), read, bytearray(b"".join(body)))


@pytest.mark.parametrize(
    ("credential", "tail"),
    [
        (Credential(AuthKind.NONE), b""),
        (Credential(AuthKind.API_KEY, Secret("k-1")), b"api-key: k-1\r\n"),
        (Credential(AuthKind.BEARER, Secret("k-2")), b"authorization: Bearer k-2\r\n"),
    ],
)
async def test_a_key_is_the_same_line_each_time(credential: Credential, tail: bytes) -> None:
    identity = identity_of(credential)

    assert identity.tail == tail
    assert not identity.signs
    assert identity.refresh_in_s(1e12) is None
    identity.lapse(1e12)
    await identity.refresh()
    await identity.close()
    assert identity.tail == tail == identity.sign(b"POST", HOST, TARGET, HEADERS, BODY)


# Tokens.


class Tap:
    """Gives tokens of an hour, or what it is told to raise."""

    def __init__(self, clock: ManualClock, life_s: float = 3600.0) -> None:
        self.clock, self.life_s, self.count = clock, life_s, 0
        self.error: Exception | None = None

    async def __call__(self) -> Token:
        self.count += 1
        if self.error is not None:
            raise self.error
        return Token(f"token-{self.count}", self.clock.wall() + self.life_s)


async def test_a_token_is_due_about_five_minutes_before_its_end() -> None:
    clock = ManualClock()
    tap = Tap(clock)
    dues = set()
    for seed in range(50):
        identity = TokenIdentity(tap, clock, random.Random(seed))
        assert identity.tail is None
        due_s = identity.refresh_in_s(clock.wall())
        assert due_s is not None
        assert due_s <= 0
        await identity.refresh()
        due_s = identity.refresh_in_s(clock.wall())
        assert due_s is not None
        assert 3600 - 360 <= due_s <= 3600 - 240
        dues.add(due_s)
    assert len(dues) == 50  # routers that started together do not ask together


async def test_a_short_token_is_not_fetched_without_end() -> None:
    clock = ManualClock()
    identity = TokenIdentity(Tap(clock, life_s=40.0), clock, random.Random(1))
    await identity.refresh()

    due_s = identity.refresh_in_s(clock.wall())
    assert due_s is not None
    assert 16 <= due_s <= 24


async def test_the_old_token_serves_until_its_end_and_not_after() -> None:
    clock = ManualClock()
    tap = Tap(clock)
    identity = TokenIdentity(tap, clock, random.Random(1), b"x-goog-user-project: p\r\n")
    await identity.refresh()
    assert identity.tail == b"authorization: Bearer token-1\r\nx-goog-user-project: p\r\n"
    assert identity.sign(b"POST", HOST, TARGET, HEADERS, BODY) == identity.tail

    tap.error = IdentityError("down")
    clock.advance(3599)
    with pytest.raises(IdentityError, match="down"):
        await identity.refresh()
    identity.lapse(clock.wall())
    assert identity.tail is not None
    clock.advance(1)
    identity.lapse(clock.wall())
    assert identity.tail is None
    with pytest.raises(IdentityError):
        identity.sign(b"POST", HOST, TARGET, HEADERS, BODY)

    tap.error = None
    await identity.refresh()
    assert identity.tail is not None
    assert identity.tail.startswith(b"authorization: Bearer token-3\r\n")


@pytest.mark.parametrize("text", ["", "a b", "a\r\nx: y", "é"])
async def test_a_token_that_no_header_can_carry_is_refused(text: str) -> None:
    async def tap() -> Token:
        return Token(text, 2e9)

    identity = TokenIdentity(tap, ManualClock(), random.Random(1))
    with pytest.raises(IdentityError, match="no header can carry"):
        await identity.refresh()
    assert identity.tail is None


async def test_a_token_that_came_too_late_is_refused() -> None:
    clock = ManualClock()
    identity = TokenIdentity(Tap(clock, life_s=-1.0), clock, random.Random(1))
    with pytest.raises(IdentityError, match="expired"):
        await identity.refresh()


def test_a_token_is_not_shown() -> None:
    assert "abc" not in repr(Token("abc", 1.0))


# AWS.

AWS = AwsSource("eu-west-1", "bedrock", "AKIDEXAMPLE", Secret("secret-key"), None)


def aws_check(session_token: str | None = None, service: str = "bedrock", region: str = "eu-west-1") -> SigV4Check:
    return SigV4Check(AwsKeys("AKIDEXAMPLE", "secret-key", region, service, session_token), SystemClock())


def test_the_independent_reading_accepts_the_vectors_that_aws_published() -> None:
    """From AWS's Signature Version 4 test suite: get-vanilla, and get-vanilla-query-order-key-case."""
    keys = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "us-east-1", "service")
    check = SigV4Check(keys, ManualClock(wall_s=1440938160.0))  # 2015-08-30 12:36:00
    for target, signature in (
        ("/", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("/?Param2=value2&Param1=value1", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ):
        authorization = (
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
            f"SignedHeaders=host;x-amz-date, Signature={signature}"
        )
        headers = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")]
        request = Request("GET", target, [*headers, ("authorization", authorization)])
        assert check.problem(request) is None


@LAW
@given(body=st.lists(st.binary(max_size=200), max_size=4), path=st.text("ab/-._~:%25", min_size=1, max_size=20))
def test_a_sigv4_signature_is_accepted_and_covers_body_and_path(body: list[bytes], path: str) -> None:
    identity = identity_of(Credential(AuthKind.SIGV4, source=AWS))
    target = b"/v1/" + path.replace("//", "/").replace("..", ".").strip("./").encode() + b"/x"
    if b"/./" in target or b"//" in target:
        return  # no server would be asked for such a path, and AWS signs what it becomes
    request = as_received(identity, target, tuple(body))
    assert aws_check().problem(request) is None

    request.body += b"!"
    assert aws_check().problem(request) is Problem.SIGNATURE


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        (aws_check(service="bedrock-mantle"), Problem.SCOPE),
        (aws_check(region="us-east-1"), Problem.SCOPE),
        (aws_check(session_token="other"), Problem.UNKNOWN),
        (SigV4Check(AwsKeys("AKIDEXAMPLE", "other", "eu-west-1"), SystemClock()), Problem.SIGNATURE),
        (SigV4Check(AwsKeys("AKIDOTHER", "secret-key", "eu-west-1"), SystemClock()), Problem.UNKNOWN),
        (SigV4Check(AwsKeys("AKIDEXAMPLE", "secret-key", "eu-west-1"), ManualClock()), Problem.EXPIRED),
    ],
)
def test_a_sigv4_signature_counts_for_one_key_one_service_one_region_and_now(
    check: SigV4Check, problem: Problem
) -> None:
    identity = identity_of(Credential(AuthKind.SIGV4, source=AWS))
    assert check.problem(as_received(identity)) is problem


def test_a_session_token_is_sent_and_signed() -> None:
    source = AwsSource("eu-west-1", "bedrock", "AKIDEXAMPLE", Secret("secret-key"), Secret("session"))
    request = as_received(identity_of(Credential(AuthKind.SIGV4, source=source)))

    assert aws_check("session").problem(request) is None
    assert "x-amz-security-token" in (request.header("authorization") or "")


async def test_a_profile_and_the_default_chain_give_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "credentials"
    file.write_text("[team]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = secret-key\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    profile = identity_of(Credential(AuthKind.SIGV4, source=AwsSource("eu-west-1", profile="team")))
    await profile.refresh()
    assert aws_check().problem(as_received(profile)) is None
    due_s = profile.refresh_in_s(ManualClock().wall())
    assert due_s is not None
    assert 0 < due_s < 900  # a chain may hold temporary keys: it is asked again

    chain = identity_of(Credential(AuthKind.SIGV4, source=AwsSource("eu-west-1")))
    with pytest.raises(IdentityError, match="nowhere"):
        await chain.refresh()
    with pytest.raises(IdentityError, match="nowhere"):  # and no request searches anew
        chain.sign(b"POST", HOST, TARGET, HEADERS, BODY)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-key")
    await chain.refresh()
    assert aws_check().problem(as_received(chain)) is None

    unknown = identity_of(Credential(AuthKind.SIGV4, source=AwsSource("eu-west-1", profile="nobody")))
    with pytest.raises(IdentityError, match="nobody"):
        await unknown.refresh()


# Oracle.

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
KEY_ID = "ocid1.tenancy/ocid1.user/aa:bb"


def oci_source(folder: Path, passphrase: str | None = None) -> OciSource:
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    file = folder / "key.pem"
    file.write_bytes(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    secret = Secret(passphrase) if passphrase else None
    parts = {"user": "ocid1.user", "fingerprint": "aa:bb", "tenancy": "ocid1.tenancy"}
    return OciSource(OciPrincipal.KEY, compartment="ocid1.compartment", key_file=str(file), passphrase=secret, **parts)


def oci_check(compartment: str | None = "ocid1.compartment", clock: ManualClock | None = None) -> OciSignatureCheck:
    return OciSignatureCheck(OciKey(KEY_ID, PUBLIC, compartment), clock or SystemClock())


@pytest.mark.parametrize("passphrase", [None, "words"])
async def test_an_oracle_signature_is_accepted_and_covers_body_path_and_type(
    tmp_path: Path, passphrase: str | None
) -> None:
    identity = identity_of(Credential(AuthKind.OCI, source=oci_source(tmp_path, passphrase)))
    assert identity.signs
    assert identity.tail is None
    await identity.refresh()
    assert identity.refresh_in_s(1e12) is None  # a user's key stays what it is
    request = as_received(identity)
    assert oci_check().problem(request) is None
    assert oci_check("another").problem(request) is Problem.SCOPE
    assert oci_check(clock=ManualClock()).problem(request) is Problem.EXPIRED

    for spoilt in (
        Request("POST", "/openai/v1/responses", request.headers, request.body),
        Request("POST", request.target, request.headers, request.body + b" "),
        Request("POST", request.target, [("content-type", "text/plain"), *request.headers], request.body),
        Request("POST", request.target, [each for each in request.headers if each[0] != "host"], request.body),
    ):
        assert oci_check().problem(spoilt) is Problem.SIGNATURE
    other = OciKey("another/user/key", PUBLIC)
    assert OciSignatureCheck(other, SystemClock()).problem(request) is Problem.UNKNOWN


async def test_oracles_own_configuration_file_gives_the_key(tmp_path: Path) -> None:
    source = oci_source(tmp_path)
    file = tmp_path / "config"
    file.write_text(
        "[DEFAULT]\nregion = us-chicago-1\n[TEAM]\nuser = ocid1.user.oc1..a\nfingerprint = "
        f"aa:bb:{':'.join(['cc'] * 14)}\ntenancy = ocid1.tenancy.oc1..b\nkey_file = {source.key_file}\n"
    )
    identity = identity_of(
        Credential(AuthKind.OCI, source=OciSource(OciPrincipal.CONFIG, config_file=str(file), profile="TEAM"))
    )
    await identity.refresh()
    request = as_received(identity)
    key_id = f"ocid1.tenancy.oc1..b/ocid1.user.oc1..a/aa:bb:{':'.join(['cc'] * 14)}"
    assert OciSignatureCheck(OciKey(key_id, PUBLIC), SystemClock()).problem(request) is None


async def test_a_resource_signs_with_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Oracle's functions and containers have it: a token and a key in files that the environment names."""
    parts = ({"alg": "RS256"}, {"exp": int(time.time()) + 1200, "res_tenant": "t", "res_id": "r"})
    text = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    token = tmp_path / "rpst"
    token.write_text(f"{text}.c2ln")
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_VERSION", "2.2")
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_RPST", str(token))
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM", str(oci_source(tmp_path).key_file))
    monkeypatch.setenv("OCI_RESOURCE_PRINCIPAL_REGION", "us-chicago-1")
    identity = identity_of(Credential(AuthKind.OCI, source=OciSource(OciPrincipal.RESOURCE)))

    await identity.refresh()
    check = OciSignatureCheck(OciKey(f"ST${text}.c2ln", PUBLIC), SystemClock())
    assert check.problem(as_received(identity)) is None
    due_s = identity.refresh_in_s(ManualClock().wall())
    assert due_s is not None
    assert 0 < due_s <= 900  # the session ends within the hour


@pytest.mark.parametrize("principal", [OciPrincipal.INSTANCE, OciPrincipal.RESOURCE])
async def test_a_machine_that_is_not_oracles_is_told_in_one_line(
    principal: OciPrincipal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OCI_RESOURCE_PRINCIPAL_VERSION", raising=False)
    monkeypatch.setenv("OCI_METADATA_BASE_URL", "http://127.0.0.1:9/opc/v2")
    identity = identity_of(Credential(AuthKind.OCI, source=OciSource(principal)))

    with pytest.raises(IdentityError, match="Oracle's signing key cannot be used") as caught:
        await identity.refresh()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spoil", ["missing", "no key", "passphrase"])
async def test_a_bad_oracle_key_is_named_without_its_secret(tmp_path: Path, spoil: str) -> None:
    source = oci_source(tmp_path, "words")
    file = Path(source.key_file or "")
    if spoil == "missing":
        file.unlink()
    elif spoil == "no key":
        file.write_text("-----BEGIN RSA PRIVATE KEY-----\nnothing\n-----END RSA PRIVATE KEY-----\n")
    else:
        source = replace(source, passphrase=Secret("canary"))
    identity = identity_of(Credential(AuthKind.OCI, source=source))

    with pytest.raises(IdentityError, match="Oracle's signing key cannot be used") as caught:
        await identity.refresh()
    assert "canary" not in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(IdentityError):
        identity.sign(b"POST", HOST, TARGET, HEADERS, BODY)


async def test_threads_that_sign_at_once_each_get_a_right_signature(tmp_path: Path) -> None:
    """The first request may come before the first refresh."""
    identity = identity_of(Credential(AuthKind.OCI, source=oci_source(tmp_path)))
    bodies = [(b"%d" % number,) for number in range(24)]

    requests = await asyncio.gather(*(asyncio.to_thread(as_received, identity, TARGET, body) for body in bodies))

    check = oci_check()
    assert [check.problem(request) for request in requests] == [None] * len(bodies)


# What all have in common.


@pytest.mark.parametrize("kind", [AuthKind.ENTRA, AuthKind.GOOGLE, AuthKind.SIGV4, AuthKind.OCI])
def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch, kind: AuthKind) -> None:
    assert missing_extra(kind) is None

    def nothing(name: str) -> None:
        if "." in name:  # the package around it is missing: this is how find_spec says so
            raise ModuleNotFoundError(name)

    monkeypatch.setattr("router.providers.credentials.find_spec", nothing)
    install = missing_extra(kind)
    assert install is not None
    assert install.startswith("pip install '.[")


def test_plain_keys_need_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.providers.credentials.find_spec", lambda _name: None)
    assert all(missing_extra(kind) is None for kind in (AuthKind.NONE, AuthKind.API_KEY, AuthKind.BEARER))


async def test_a_package_that_went_away_is_an_identity_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("router.providers.credentials.import_module", gone)
    for credential in (
        Credential(AuthKind.ENTRA, source=EntraSource("s/.default")),
        Credential(AuthKind.GOOGLE, source=GoogleSource()),
        Credential(AuthKind.SIGV4, source=AWS),
        Credential(AuthKind.OCI, source=OciSource(OciPrincipal.INSTANCE)),
    ):
        with pytest.raises(IdentityError, match="cannot be imported"):
            await identity_of(credential).refresh()


def test_no_cloud_package_is_imported_before_it_is_used() -> None:
    """A router without such endpoints pays nothing for them."""
    names = ("azure", "google.auth", "botocore", "oci", "cryptography", "requests")
    code = f"import router.providers.identity, json, sys; print(json.dumps([n for n in {names!r} if n in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_errors_are_one_short_line_without_secrets() -> None:
    text = described(ValueError("bad key canary\r\n at line 1 " + "x" * 500), "canary", None)
    assert "canary" not in text
    assert "\n" not in text
    assert len(text) <= 301
    assert described(ValueError()) == "ValueError"


def test_a_header_cannot_end_its_line() -> None:
    assert header_lines({"a": "b", "c": "d"}) == b"a: b\r\nc: d\r\n"
    for value in ("x\r\ny: z", "x\n", "é"):
        with pytest.raises(IdentityError):
            header_lines({"a": value})


def test_every_kind_has_its_maker() -> None:
    assert set(identities._MAKERS) == set(AuthKind)
