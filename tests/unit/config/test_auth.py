"""The `auth` section: every way of it, what each lacks, and which providers take it."""

from pathlib import Path

import pytest

from router.model.fleet import (
    AuthKind,
    AwsSource,
    Credential,
    EntraSource,
    GoogleSource,
    OciPrincipal,
    OciSource,
    Secret,
)
from router.providers import DIALECTS, dialect
from tests.unit.config.workbench import ENVIRON, GOOD, Workbench

AZURE_AUTH = '{api_key: "${AZURE_KEY}"}'
ENV = {**ENVIRON, "CANARY": "canary-5d1e"}
HOSTS = {
    "openai": ("coreweave", "https://api.inference.wandb.ai/v1"),
    "oci": ("oracle", "https://inference.generativeai.us-chicago-1.oci.oraclecloud.com/openai/v1"),
    "bedrock": ("aws", "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1"),
    "vertex": (
        "google",
        "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/endpoints/openapi",
    ),
}


OTHER = """\
endpoints:
  ord:
    cloud: CLOUD
    provider: PROVIDER
    region: us-west-2
    base_url: URL
    auth: AUTH
    deployments: [{model: gpt-4o, name: publisher/model}]
workloads:
  internal: {placement: {rule: spread, clouds: [CLOUD]}}
keys:
  - {name: evaluation, workload: internal, sha256: "KEY", models: ["*"]}
"""


def at(provider: str, auth: str) -> str:
    """A file with one endpoint, at this provider."""
    cloud, url = HOSTS[provider]
    words = {"CLOUD": cloud, "PROVIDER": provider, "URL": url, "AUTH": auth, "KEY": "b" * 64}
    text = OTHER
    for word, instead in words.items():
        text = text.replace(word, instead)
    return text


def of_azure(auth: str) -> str:
    return GOOD.replace(AZURE_AUTH, auth)


def write_files(folder: Path) -> None:
    for name in ("key.pem", "config", "token", "account.json"):
        (folder / name).write_text("content")


@pytest.mark.parametrize(
    ("auth", "source"),
    [
        ("{managed_identity: true}", {}),
        ("{managed_identity: true, client_id: c}", {"client_id": "c"}),
        (
            '{tenant_id: t, client_id: c, client_secret: "${CANARY}"}',
            {"tenant_id": "t", "client_id": "c", "client_secret": Secret("canary-5d1e")},
        ),
        (
            "{tenant_id: t, client_id: c, token_file: token, authority: 'https://login.microsoftonline.us'}",
            {
                "tenant_id": "t",
                "client_id": "c",
                "token_file": "FOLDER/token",
                "authority": "https://login.microsoftonline.us",
            },
        ),
        ("{managed_identity: true, scope: 'https://x/.default'}", {"scope": "https://x/.default"}),
    ],
)
def test_entra_has_three_ways(bench: Workbench, auth: str, source: dict[str, object]) -> None:
    write_files(bench.file.parent)
    credential = bench.load(of_azure(f"{{entra: {auth}}}"), ENV).endpoints["eastus2"].credential

    folder = str(bench.file.parent)
    want = {key: value.replace("FOLDER", folder) if isinstance(value, str) else value for key, value in source.items()}
    assert credential == Credential(
        AuthKind.ENTRA, source=EntraSource(**{"scope": "https://ai.azure.com/.default", **want})
    )
    assert "canary" not in repr(credential)


def test_the_classic_shape_has_a_scope_of_its_own(bench: Workbench) -> None:
    text = of_azure("{entra: {managed_identity: true}}").replace("api_version: v1", "api_version: 2024-10-21")
    source = bench.load(text, ENV).endpoints["eastus2"].credential.source

    assert source == EntraSource("https://cognitiveservices.azure.com/.default")


@pytest.mark.parametrize(
    ("provider", "auth", "credential"),
    [
        ("oci", '{bearer: "${CANARY}"}', Credential(AuthKind.BEARER, Secret("canary-5d1e"))),
        (
            "oci",
            '{oci: {key_file: key.pem, user: u, fingerprint: f, tenancy: t, passphrase: "${CANARY}", compartment: c}}',
            OciSource(OciPrincipal.KEY, "c", "u", "f", "t", "FOLDER/key.pem", Secret("canary-5d1e")),
        ),
        (
            "oci",
            "{oci: {config_file: config, profile: TEAM}}",
            OciSource(OciPrincipal.CONFIG, config_file="FOLDER/config", profile="TEAM"),
        ),
        ("oci", "{oci: {instance_principal: true, compartment: c}}", OciSource(OciPrincipal.INSTANCE, "c")),
        ("oci", "{oci: {resource_principal: true}}", OciSource(OciPrincipal.RESOURCE)),
        ("bedrock", '{bearer: "${CANARY}"}', Credential(AuthKind.BEARER, Secret("canary-5d1e"))),
        ("bedrock", "{sigv4: {default_chain: true}}", AwsSource("us-west-2")),
        ("bedrock", "{sigv4: {profile: team}}", AwsSource("us-west-2", profile="team")),
        (
            "bedrock",
            '{sigv4: {access_key_id: A, secret_access_key: "${CANARY}", session_token: "${CANARY}"}}',
            AwsSource("us-west-2", "bedrock", "A", Secret("canary-5d1e"), Secret("canary-5d1e")),
        ),
        (
            "bedrock",
            '{sigv4: {access_key_id: A, secret_access_key: "${CANARY}", service: bedrock-mantle}}',
            AwsSource("us-west-2", "bedrock-mantle", "A", Secret("canary-5d1e")),
        ),
        ("vertex", "{google: {application_default: true}}", GoogleSource()),
        (
            "vertex",
            "{google: {service_account_file: account.json, quota_project: p}}",
            GoogleSource("FOLDER/account.json", quota_project="p"),
        ),
        (
            "vertex",
            "{google: {workload_identity_file: account.json}}",
            GoogleSource(workload_identity_file="FOLDER/account.json"),
        ),
    ],
)
def test_each_cloud_has_its_ways(bench: Workbench, provider: str, auth: str, credential: object) -> None:
    write_files(bench.file.parent)
    snapshot = bench.load(at(provider, auth), ENV)

    found = snapshot.endpoints["ord"].credential
    shown = str(found.source if found.source is not None else found).replace(str(bench.file.parent), "FOLDER")
    assert shown == str(credential)
    assert "canary" not in repr(snapshot)
    assert {each.operations for each in snapshot.deployments.values() if each.endpoint.id == "ord"} <= {
        frozenset({"chat"}),
        frozenset({"chat", "responses"}),
    }


@pytest.mark.parametrize("provider", sorted(DIALECTS))
@pytest.mark.parametrize("kind", [kind for kind in AuthKind if kind is not AuthKind.NONE], ids=lambda kind: kind.value)
def test_a_credential_that_a_provider_does_not_take_is_a_fault_that_names_those_that_it_takes(
    bench: Workbench, provider: str, kind: AuthKind
) -> None:
    ways = {
        AuthKind.API_KEY: "x",
        AuthKind.BEARER: "x",
        AuthKind.ENTRA: "{managed_identity: true}",
        AuthKind.GOOGLE: "{application_default: true}",
        AuthKind.SIGV4: "{default_chain: true}",
        AuthKind.OCI: "{instance_principal: true}",
    }
    auth = f"{{{kind.value}: {ways[kind]}}}"
    if provider == "azure_openai":
        name, text = "eastus2", of_azure(auth)
    else:
        name, text = "ord", at(provider, auth)

    if kind in dialect(provider).identities:
        assert bench.load(text, ENV).endpoints[name].credential.kind is kind
        return
    (fault,) = bench.faults(text, ENV)
    assert fault.path == f"endpoints.{name}.auth.{kind.value}"
    assert f"is not for the provider {provider}, which takes " in fault.message
    assert all(each.value in fault.message for each in dialect(provider).identities)


FAULTS: list[tuple[str, str, str, str]] = [
    # endpoint's provider, auth, path below auth, a part of the message
    (
        "azure",
        "{entra: {}}",
        "entra",
        "does not say how: write one of managed_identity, client_",
    ),
    ("azure", "{entra: {managed_identity: false}}", "entra.managed_identity", "must be true, or left out"),
    ("azure", "{entra: {managed_identity: yes}}", "entra.managed_identity", "must be true or false"),
    (
        "azure",
        "{entra: {managed_identity: true, client_secret: canary}}",
        "entra",
        "has managed_identity and client",
    ),
    ("azure", "{entra: {client_secret: canary}}", "entra", "needs tenant_id and client_id beside client_secret"),
    ("azure", "{entra: {client_secret: canary, client_id: c}}", "entra", "needs tenant_id beside client_secret"),
    (
        "azure",
        "{entra: {managed_identity: true, tenant_id: t}}",
        "entra.tenant_id",
        "says nothing beside",
    ),
    ("azure", "{entra: {managed_identity: true, scope: 'https://x'}}", "entra.scope", "ends in /.default"),
    ("azure", "{entra: {manged_identity: true}}", "entra.manged_identity", "did you mean 'managed_identity'?"),
    (
        "azure",
        "{entra: {token_file: missing, tenant_id: t, client_id: c}}",
        "entra.token_file",
        "cannot be read (No such file or directory)",
    ),
    (
        "azure",
        "{entra: {client_secret: canary, tenant_id: t, client_id: c, authority: 'http://x'}}",
        "entra.authority",
        "write https:// and its host alone",
    ),
    (
        "azure",
        "{entra: {client_secret: canary, tenant_id: t, client_id: c, authority: 'https://[x'}}",
        "entra.authority",
        "write https:// and its host alone",
    ),
    (
        "azure",
        "{entra: {client_secret: $NAME, tenant_id: t, client_id: c}}",
        "entra.client_secret",
        "with braces",
    ),
    (
        "azure",
        "{entra: {client_secret: 'a b', tenant_id: t, client_id: c}}",
        "entra.client_secret",
        "cannot have",
    ),
    ("azure", "{entra: x}", "entra", "must be a mapping"),
    ("azure", "{api_key: x, entra: {managed_identity: true}}", "", "has both api_key and entra"),
    ("oci", "none", "", "is none, but oci answers nobody without a credential: write bearer or oci"),
    ("oci", "{oci: {user: u}}", "oci", "write one of key_file, config_file, instance_principal, resource_principal"),
    ("oci", "{oci: {key_file: key.pem, user: u}}", "oci", "needs fingerprint and tenancy beside key_file"),
    ("oci", "{oci: {instance_principal: true, profile: x}}", "oci.profile", "says nothing beside instance_principal"),
    ("oci", "{oci: {config_file: nowhere}}", "oci.config_file", "cannot be read"),
    ("bedrock", "none", "", "write bearer or sigv4"),
    ("bedrock", "{sigv4: {service: bedrock}}", "sigv4", "write one of access_key_id, profile, default_chain"),
    ("bedrock", "{sigv4: {access_key_id: A}}", "sigv4", "needs secret_access_key beside access_key_id"),
    ("bedrock", "{sigv4: {default_chain: true, service: 'Bed rock'}}", "sigv4.service", "cannot have"),
    ("bedrock", "{sigv4: {default_chain: true, service: Bedrock}}", "sigv4.service", "is no name of a service"),
    ("vertex", "none", "", "write google"),
    (
        "vertex",
        "{google: {quota_project: p}}",
        "google",
        "write one of service_account_file, workload",
    ),
    ("vertex", "{google: {service_account_file: nowhere.json}}", "google.service_account_file", "cannot be read"),
]


@pytest.mark.parametrize(("provider", "auth", "path", "message"), FAULTS)
def test_what_is_wrong_is_named_at_its_place(
    bench: Workbench, provider: str, auth: str, path: str, message: str
) -> None:
    write_files(bench.file.parent)
    name, text = ("eastus2", of_azure(auth)) if provider == "azure" else ("ord", at(provider, auth))
    faults = bench.faults(text, ENV)

    here = f"endpoints.{name}.auth" + (f".{path}" if path else "")
    found = [fault for fault in faults if fault.path == here and message in fault.message]
    assert found, [str(fault) for fault in faults]
    assert not any("canary" in str(fault) for fault in faults)


def test_a_signature_needs_the_region(bench: Workbench) -> None:
    text = at("bedrock", "{sigv4: {default_chain: true}}").replace("    region: us-west-2\n", "")
    (fault,) = bench.faults(text, ENV)

    assert fault.path == "endpoints.ord.region"
    assert "is missing: a SigV4 signature is for one region" in fault.message


def test_a_signature_is_for_the_hosts_own_region(bench: Workbench) -> None:
    text = at("bedrock", "{sigv4: {default_chain: true}}").replace("region: us-west-2", "region: us-east-1")
    (fault,) = bench.faults(text, ENV)

    assert fault.path == "endpoints.ord.region"
    assert "is not the region of the host" in fault.message
    bench.load(at("bedrock", "{bearer: x}").replace("region: us-west-2", "region: us-east-1"), ENV)  # a name like any


@pytest.mark.parametrize(
    ("host", "written", "service"),
    [
        ("bedrock-runtime.us-west-2.amazonaws.com/openai/v1", "", "bedrock"),
        ("bedrock-mantle.us-west-2.api.aws/v1", "", "bedrock-mantle"),
        ("bedrock-mantle.us-west-2.api.aws/v1", ", service: bedrock", "bedrock"),
    ],
)
def test_the_service_is_the_hosts_unless_it_is_written(bench: Workbench, host: str, written: str, service: str) -> None:
    text = at("bedrock", f"{{sigv4: {{default_chain: true{written}}}}}")
    text = text.replace("bedrock-runtime.us-west-2.amazonaws.com/openai/v1", host)

    assert bench.load(text, ENV).endpoints["ord"].credential.source == AwsSource("us-west-2", service)


@pytest.mark.parametrize(
    ("provider", "old", "new"),
    [
        ("oci", "/openai/v1", ""),
        ("oci", "/openai/v1", "/20231130/actions/chat"),
        ("bedrock", "/openai/v1", ""),
        ("vertex", "/v1/projects/p/locations/us-central1/endpoints/openapi", ""),
        ("vertex", "/endpoints/openapi", "/endpoints/openapi/chat/completions"),
    ],
)
def test_a_base_url_without_the_compatible_surface_is_named(
    bench: Workbench, provider: str, old: str, new: str
) -> None:
    text = at(provider, "{google: {application_default: true}}" if provider == "vertex" else "{bearer: x}")
    (fault,) = bench.faults(text.replace(old, new), ENV)

    assert fault.path == "endpoints.ord.base_url"
    assert "write https://HOST/" in fault.message


def test_an_emulated_endpoint_sends_its_secret_to_nobody_else(bench: Workbench) -> None:
    secret = "tenant_id: t, client_id: c, client_secret: s"
    text = GOOD.replace("https://contoso.openai.azure.com", "https://127.0.0.1:9443\n    emulated: true")
    (fault,) = bench.faults(text.replace(AZURE_AUTH, f"{{entra: {{{secret}}}}}"), ENV)
    assert "needs an authority on loopback" in fault.message

    local = f"{{entra: {{{secret}, authority: 'https://127.0.0.1:9443'}}}}"
    assert bench.load(text.replace(AZURE_AUTH, local), ENV).endpoints["eastus2"].credential.kind is AuthKind.ENTRA


@pytest.mark.parametrize(
    ("text", "module", "extra"),
    [
        (of_azure("{entra: {managed_identity: true}}"), "azure.identity", "azure"),
        (at("oci", "{oci: {instance_principal: true}}"), "oci", "oci"),
        (at("bedrock", "{sigv4: {default_chain: true}}"), "botocore", "aws"),
        (at("vertex", "{google: {application_default: true}}"), "google.auth", "google"),
    ],
)
def test_a_missing_package_is_a_fault_that_names_its_extra(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, text: str, module: str, extra: str
) -> None:
    monkeypatch.setattr("router.providers.credentials.find_spec", lambda name: None if name == module else object())
    (fault,) = bench.faults(text, ENV)

    assert f"pip install '.[{extra}]'" in fault.message
    bench.load(GOOD, ENV)  # who does not use it does not need it


def test_secrets_that_stand_in_the_file_are_warned_of_at_their_place(bench: Workbench) -> None:
    text = of_azure("{entra: {client_secret: canary, tenant_id: t, client_id: c}}")
    (warning,) = (each for each in bench.load(text, ENV).warnings if "auth" in each)
    assert warning.startswith("endpoints.eastus2.auth.entra.client_secret: the secret stands in the file")

    assert not any("auth" in each for each in bench.load(text.replace("canary", '"${CANARY}"'), ENV).warnings)
