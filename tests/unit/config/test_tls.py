"""Certificates, proxies and who is trusted: what is taken, what is refused and where, and what is warned of."""

import datetime
from pathlib import Path

import pytest
import trustme

from router.config.load import load
from router.config.snapshot import Snapshot
from router.config.stored_keys import StoredKeys, check_terms
from router.model.keys import StoredKey, StoredSecret
from tests.unit.config.workbench import ENVIRON, GOOD, Workbench

SERVER = "  listen: 127.0.0.1:8080"
TLS = f"{SERVER}\n  tls: {{certificate: own.pem, key: own.key}}"
MUTUAL = f"{SERVER}\n  tls: {{certificate: own.pem, key: own.key, client_ca: ca.pem}}"
AZURE = "    headers: {x-team: one}"
KEY = f'    sha256: "{"a" * 64}"'
NOW = datetime.datetime(2031, 5, 1, tzinfo=datetime.UTC)


class Folder:
    """Certificates beside the configuration."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.authority = folder, trustme.CA()
        self.authority.cert_pem.write_to_path(folder / "ca.pem")
        self.issue("own")
        self.issue("other")

    def issue(self, name: str, ends: datetime.datetime | None = None) -> None:
        issued = self.authority.issue_cert("router.example", not_after=ends)
        (self.folder / f"{name}.pem").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.folder / f"{name}.key")


@pytest.fixture
def certificates(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def bench(certificates: Folder) -> Workbench:
    return Workbench(certificates.folder)


def changed(old: str, new: str, text: str = GOOD) -> str:
    assert text.count(old) == 1
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "path", "message"),
    [
        (SERVER, f"{SERVER}\n  tls: {{certificate: own.pem}}", "server.tls.key", "is missing"),
        (SERVER, TLS.replace("own.pem", "none.pem"), "server.tls.certificate", "cannot be read (No such file"),
        (SERVER, TLS.replace("own.pem", "own.key"), "server.tls.certificate", "no file of PEM certificates"),
        (SERVER, TLS.replace("own.key", "other.key"), "server.tls.key", "is not the key of `certificate`"),
        (SERVER, TLS.replace("own.key", "ca.pem"), "server.tls.key", "is no key in PEM without a password"),
        (SERVER, MUTUAL.replace("ca.pem", "own.key"), "server.tls.client_ca", "no file of PEM certificates"),
        (
            SERVER,
            TLS.replace("own.key}", "own.key, client_certificates: required}"),
            "server.tls.client_certificates",
            "needs `client_ca`",
        ),
        (SERVER, TLS.replace("own.key}", "own.key, tls_min: '1.1'}"), "server.tls.tls_min", "'1.1' is not 1.2 or 1.3"),
        (SERVER, f"{SERVER}\n  proxy_protocol: true", "server.proxy_protocol", "needs `trusted_proxies`"),
        (SERVER, f"{SERVER}\n  trusted_proxies: [10.0.0.1/8]", "server.trusted_proxies[0]", "is no network"),
        (AZURE, f"{AZURE}\n    client_certificate: own.pem", "E.client_certificate", "needs `client_key` beside it"),
        (AZURE, f"{AZURE}\n    client_key: own.key", "E.client_key", "needs `client_certificate` beside it"),
        (
            AZURE,
            f"{AZURE}\n    client_certificate: own.pem\n    client_key: other.key",
            "E.client_key",
            "is not the key of `client_certificate`",
        ),
        (AZURE, f"{AZURE}\n    ca_file: own.key", "E.ca_file", "is no file of PEM certificates"),
        (AZURE, f"{AZURE}\n    proxy: socks5://p:1", "E.proxy", "is no URL of a proxy"),
        (AZURE, f"{AZURE}\n    proxy: http://p", "E.proxy", "names no port"),
        (AZURE, f"{AZURE}\n    proxy: http://p:1/path", "E.proxy", "is no URL of a proxy"),
        (AZURE, f"{AZURE}\n    proxy: http://0.0.0.0:1", "E.proxy", "cannot be dialled"),
        (AZURE, f"{AZURE}\n    proxy: http://169.254.169.254:80", "E.proxy", "cannot be dialled"),
        (KEY, f"{KEY}\n    certificates: [CN=acme]", "keys[0].certificates", "needs `server.tls` with `client_ca`"),
    ],
)
def test_one_slip_is_one_fault_at_its_place(bench: Workbench, old: str, new: str, path: str, message: str) -> None:
    (fault,) = bench.faults(changed(old, new))
    assert fault.path == path.replace("E.", "endpoints.eastus2.")
    assert message in fault.message
    assert fault.line > 0


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(bench: Workbench, certificates: Folder) -> None:
    from cryptography.hazmat.primitives import serialization

    file = certificates.folder / "own.key"
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    hidden = serialization.BestAvailableEncryption(b"secret")
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    file.write_bytes(key.private_bytes(pem, form, hidden))
    (fault,) = bench.faults(changed(SERVER, TLS))
    assert (fault.path, "without a password" in fault.message) == ("server.tls.key", True)


def test_a_proxys_password_is_never_shown(bench: Workbench) -> None:
    canary = "canary-of-the-proxy"
    (fault,) = bench.faults(changed(AZURE, f"{AZURE}\n    proxy: http://user:{canary}@/"))
    assert canary not in str(fault)
    snapshot = bench.load(changed(AZURE, f'{AZURE}\n    proxy: "http://user:${{AZURE_KEY}}@10.0.0.9:3128"'))
    proxy = snapshot.endpoints["eastus2"].proxy
    assert proxy is not None
    assert proxy.credential is not None
    assert proxy.credential.reveal() == f"user:{ENVIRON['AZURE_KEY']}"
    assert ENVIRON["AZURE_KEY"] not in repr(snapshot)


def test_what_leads_to_an_emulated_endpoint_stays_on_this_machine(bench: Workbench) -> None:
    """CONNECT 127.0.0.1 to another machine would be that machine's: it could stand for any cloud."""
    text = changed("https://api.inference.wandb.ai/v1", "http://127.0.0.1:9/v1")
    text = changed("    zone: ord\n", "    zone: ord\n    emulated: true\n    proxy: http://10.0.0.9:3128\n", text)
    (fault,) = bench.faults(text)
    assert (fault.path, "not on this machine" in fault.message) == ("endpoints.ord.proxy", True)


class TestWarnings:
    """By the moment that is given: a certificate of thirty days, and one of a year."""

    def warnings(self, bench: Workbench, ends: datetime.datetime, now: datetime.datetime) -> list[str]:
        Folder(bench.file.parent).issue("own", ends)
        snapshot = bench.load(changed(SERVER, TLS), wall=now.timestamp())
        return [each for each in snapshot.warnings if each.startswith("server.tls")]

    def test_the_end_of_a_certificate_is_warned_of_in_time(self, bench: Workbench) -> None:
        begin = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)  # of all of trustme's
        assert begin < NOW
        assert self.warnings(bench, NOW + datetime.timedelta(days=22), NOW) == []
        (soon,) = self.warnings(bench, NOW + datetime.timedelta(days=20), NOW)
        assert "ends soon, at 2031-05-21" in soon

    def test_one_that_has_ended_is_warned_of_and_does_not_keep_the_router_from_starting(self, bench: Workbench) -> None:
        (ended,) = self.warnings(bench, NOW - datetime.timedelta(hours=1), NOW)
        assert "has ended at 2031-04-30" in ended


class TestSource:
    """Who is handed a configuration sees the certificates that were checked with it, whatever the files hold by now."""

    def test_files_go_on_with_it(self, bench: Workbench, certificates: Folder) -> None:
        first = bench.load(changed(SERVER, MUTUAL))
        for name in ("own.pem", "own.key", "ca.pem"):
            (certificates.folder / name).write_text("half a")
        again = load(bench.file, {}, source=first.source)
        assert again.server == first.server
        assert again.version == first.version

    def test_a_renewed_certificate_is_another_version(self, bench: Workbench, certificates: Folder) -> None:
        first = bench.load(changed(SERVER, TLS))
        certificates.issue("own")
        assert bench.load(changed(SERVER, TLS)).version != first.version

    def test_a_renewed_certificate_makes_no_other_endpoint(self, bench: Workbench, certificates: Folder) -> None:
        """Its health and quotas stay."""
        text = changed(AZURE, f"{AZURE}\n    client_certificate: own.pem\n    client_key: own.key")
        first = bench.load(text).endpoints["eastus2"]
        certificates.issue("own")
        second = bench.load(text).endpoints["eastus2"]
        assert first == second
        assert first.tls != second.tls


class TestKeys:
    FINGERPRINT = f"sha256:{'c' * 64}"

    def with_key(self, bench: Workbench, lines: str) -> Snapshot:
        return bench.load(changed(KEY, lines, changed(SERVER, MUTUAL)))

    def test_a_certificate_stands_for_its_key(self, bench: Workbench) -> None:
        snapshot = self.with_key(bench, f'    certificates: ["{self.FINGERPRINT.upper()}", "CN=acme,O=Example"]')
        assert {name: key.name for name, key in snapshot.certificates.items()} == {
            self.FINGERPRINT: "acme",
            "CN=acme,O=Example": "acme",
        }
        acme = snapshot.certificates[self.FINGERPRINT]
        assert snapshot.keys[acme.sha256] is acme, "what a reload leaves of it is looked up so"

    def test_one_certificate_is_not_two_keys(self, bench: Workbench) -> None:
        text = changed(KEY, f"{KEY}\n    certificates: [CN=acme]", changed(SERVER, MUTUAL))
        other = f'    sha256: "{"b" * 64}"'
        (fault,) = bench.faults(changed(other, f"{other}\n    certificates: [CN=acme]", text))
        assert (fault.path, "is that of keys[0] already" in fault.message) == ("keys[1].certificates[0]", True)

    @pytest.mark.parametrize("name", ["acme", "CN", "sha256:abc", "X=1"])
    def test_what_is_no_certificate_is_a_fault(self, bench: Workbench, name: str) -> None:
        text = changed(KEY, f"{KEY}\n    certificates: ['{name}']", changed(SERVER, MUTUAL))
        (fault,) = bench.faults(text)
        assert (fault.path, "is neither a subject" in fault.message) == ("keys[0].certificates[0]", True)

    def test_a_key_has_one_or_the_other(self, bench: Workbench) -> None:
        (fault,) = bench.faults(changed(KEY, "    weight: 2"))
        assert (fault.path, fault.message) == ("keys[0].sha256", "is missing")

    def test_a_key_of_the_store_may_have_one_too_and_the_files_word_holds(self, bench: Workbench) -> None:
        snapshot = self.with_key(bench, f"{KEY}\n    certificates: [CN=acme]")
        terms = '{"workload":"api","models":["*"],"certificates":["CN=shop"]}'
        shop = StoredKey("shop", terms, (StoredSecret("d" * 64),), 0.0, 0.0)
        thief = StoredKey("thief", terms.replace("shop", "acme"), (StoredSecret("e" * 64),), 0.0, 0.0)
        joined = snapshot.joined(StoredKeys().read([shop, thief], snapshot), 0.0)
        assert {name: key.name for name, key in joined.certificates.items()} == {"CN=shop": "shop", "CN=acme": "acme"}
        plain = bench.load()
        faults = check_terms("shop", {"workload": "api", "models": ["*"], "certificates": ["CN=shop"]}, plain)
        assert [fault.path for fault in faults] == ["certificates"]
