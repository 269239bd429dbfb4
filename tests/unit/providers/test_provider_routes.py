"""Where each dialect puts an operation, and how it identifies us."""

import pytest

from router.config.hosts import parse_base_url
from router.model.fleet import AuthKind, BaseUrl, Credential, Deployment, Endpoint
from router.model.operation import OPERATIONS
from router.providers import DIALECTS, dialect
from router.providers.azure_openai import ApiVersion

AZURE = BaseUrl("https", "contoso.openai.azure.com", 443, "")
NO_AUTH = Credential(AuthKind.NONE)


def deployment(
    api_version: str = "v1", name: str = "gpt-4o-ptu", base_url: BaseUrl = AZURE, provider: str = "azure_openai"
) -> Deployment:
    endpoint = Endpoint("e", "azure", provider, base_url, NO_AUTH, api_version=api_version)
    return Deployment(endpoint, "gpt-4o", name, frozenset(OPERATIONS))


@pytest.mark.parametrize(
    ("api_version", "operation", "target", "model_in_body", "usage_option"),
    [
        ("v1", "chat", b"/openai/v1/chat/completions", True, True),
        ("v1", "completions", b"/openai/v1/completions", True, True),
        ("v1", "embeddings", b"/openai/v1/embeddings", True, False),
        ("v1", "responses", b"/openai/v1/responses", True, False),
        ("v1", "images_generations", b"/openai/v1/images/generations?api-version=preview", True, False),
        ("v1", "images_edits", b"/openai/v1/images/edits?api-version=preview", True, False),
        ("v1", "speech", b"/openai/v1/audio/speech?api-version=preview", True, False),
        ("v1", "transcriptions", b"/openai/v1/audio/transcriptions?api-version=preview", True, False),
        ("v1", "translations", b"/openai/v1/audio/translations?api-version=preview", True, False),
        ("v1", "realtime", b"/openai/v1/realtime?model=gpt-4o-ptu", False, False),
        ("v1", "responses_websocket", b"/openai/v1/responses", True, False),
        (
            "2025-04-01-preview",
            "realtime",
            b"/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-4o-ptu",
            False,
            False,
        ),
        (
            "2024-10-21",
            "chat",
            b"/openai/deployments/gpt-4o-ptu/chat/completions?api-version=2024-10-21",
            False,
            True,
        ),
        (
            "2024-06-01",
            "completions",
            b"/openai/deployments/gpt-4o-ptu/completions?api-version=2024-06-01",
            False,
            False,
        ),
        ("2025-04-01-preview", "responses", b"/openai/responses?api-version=2025-04-01-preview", True, False),
        (
            "2025-04-01-preview",
            "images_edits",
            b"/openai/deployments/gpt-4o-ptu/images/edits?api-version=2025-04-01-preview",
            False,
            False,
        ),
    ],
)
def test_azure_puts_each_operation_at_its_path(
    api_version: str, operation: str, target: bytes, model_in_body: bool, usage_option: bool
) -> None:
    route = dialect("azure_openai").route(deployment(api_version), OPERATIONS[operation])
    assert route is not None
    assert (route.target, route.model_in_body, route.usage_option) == (target, model_in_body, usage_option)
    assert route.needs_done == (operation != "realtime")


@pytest.mark.parametrize(
    ("operation", "without", "has"),
    [
        ("chat", "2022-12-01", "2023-05-15"),
        ("completions", "2022-02-28-preview", "2022-12-01"),
        ("embeddings", "2022-02-28-preview", "2022-12-01"),
        ("transcriptions", "2023-08-01-preview", "2024-02-01"),
        ("translations", "2023-08-01-preview", "2024-02-01"),
        ("images_generations", "2023-09-01-preview", "2024-02-01"),
        ("speech", "2024-10-21", "2024-10-01-preview"),  # no stable version has it
        ("speech", "2024-02-01", "2024-02-15-preview"),
        ("images_edits", "2025-03-01-preview", "2025-04-01-preview"),
        ("images_edits", "2024-10-21", "2025-04-01-preview"),
        ("responses", "2024-10-21", "2025-03-01-preview"),
    ],
)
def test_an_operation_exists_from_its_api_version_on(operation: str, without: str, has: str) -> None:
    azure = dialect("azure_openai")
    assert azure.route(deployment(without), OPERATIONS[operation]) is None
    assert azure.route(deployment(has), OPERATIONS[operation]) is not None


@pytest.mark.parametrize("api_version", ["v1", "2024-10-21", "2025-04-01-preview"])
def test_azure_has_no_moderations(api_version: str) -> None:
    assert dialect("azure_openai").route(deployment(api_version), OPERATIONS["moderations"]) is None


@pytest.mark.parametrize("api_version", ["", "v2", "2024-10-21-beta", "2024-10-21&x=1", "٢٠٢٤-10-21", "2024-10-21\n"])
def test_text_that_is_no_api_version_has_no_operation(api_version: str) -> None:
    assert dialect("azure_openai").route(deployment(api_version), OPERATIONS["chat"]) is None


@pytest.mark.parametrize(
    ("api_version", "usage_option"),
    [("2024-08-01-preview", False), ("2024-09-01-preview", True), ("2024-06-01", False), ("2024-10-21", True)],
)
def test_usage_may_be_asked_for_since_september_2024(api_version: str, usage_option: bool) -> None:
    route = dialect("azure_openai").route(deployment(api_version), OPERATIONS["chat"])
    assert route is not None
    assert route.usage_option is usage_option


def test_versions_are_in_order_of_date_and_a_preview_comes_first() -> None:
    texts = ["2024-10-21-preview", "2024-10-21", "2025-01-01-preview"]
    versions = [ApiVersion.parse(text) for text in texts]
    assert all(versions)
    assert sorted(version for version in reversed(versions) if version) == versions


@pytest.mark.parametrize(
    ("name", "segment"),
    [("a/b?c#d e", b"a%2Fb%3Fc%23d%20e"), ("größe", b"gr%C3%B6%C3%9Fe"), ("a%2f", b"a%252f"), ("a\r\nb", b"a%0D%0Ab")],
)
def test_a_deployment_name_cannot_leave_its_path_segment(name: str, segment: bytes) -> None:
    route = dialect("azure_openai").route(deployment("2024-10-21", name), OPERATIONS["chat"])
    assert route is not None
    assert route.target == b"/openai/deployments/" + segment + b"/chat/completions?api-version=2024-10-21"


@pytest.mark.parametrize("path", ["", "/openai", "/openai/v1"])
def test_the_base_url_of_the_sdks_is_the_same_resource(path: str) -> None:
    base_url = BaseUrl("https", "contoso.openai.azure.com", 443, path)
    route = dialect("azure_openai").route(deployment("v1", base_url=base_url), OPERATIONS["chat"])
    assert route is not None
    assert route.target == b"/openai/v1/chat/completions"


def test_a_query_names_the_model_of_a_realtime_session() -> None:
    base_url = BaseUrl("https", "inference.example", 443, "/v1")
    at = deployment(name="voice & more", base_url=base_url, provider="openai")

    route = dialect("openai").route(at, OPERATIONS["realtime"])

    assert route is not None
    assert route.target == b"/v1/realtime?model=voice%20%26%20more"
    assert not route.model_in_body


@pytest.mark.parametrize("operation", sorted({*OPERATIONS} - {"realtime"}))
def test_compatible_servers_have_every_operation_under_their_prefix(operation: str) -> None:
    base_url = BaseUrl("https", "inference.example", 443, "/serving endpoints/v1")
    route = dialect("openai").route(deployment(base_url=base_url, provider="openai"), OPERATIONS[operation])
    assert route is not None
    assert route.target == b"/serving%20endpoints/v1" + OPERATIONS[operation].path.encode()
    assert route.model_in_body
    assert not route.needs_done
    assert route.usage_option is (operation in ("chat", "completions"))


@pytest.mark.parametrize(
    ("provider", "base", "operations"),
    [
        ("oci", "https://inference.generativeai.r.oci.oraclecloud.com/openai/v1", {"chat", "responses"}),
        (
            "oci",
            "https://inference.generativeai.r.oci.oraclecloud.com/20231130/actions/v1",
            {"chat", "responses"},
        ),
        ("bedrock", "https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1", {"chat", "responses"}),
        ("bedrock", "https://bedrock-mantle.us-west-2.api.aws/v1", {"chat", "responses"}),
        ("vertex", "https://aiplatform.googleapis.com/v1/projects/p/locations/global/endpoints/openapi", {"chat"}),
        ("vertex", "https://aiplatform.googleapis.com/v1/projects/p/locations/l/endpoints/123", {"chat"}),
    ],
)
def test_other_clouds_have_the_operations_that_are_compatible_there(
    provider: str, base: str, operations: set[str]
) -> None:
    base_url = parse_base_url(base)
    assert isinstance(base_url, BaseUrl)
    at = deployment(base_url=base_url, provider=provider)
    routes = {name: dialect(provider).route(at, operation) for name, operation in OPERATIONS.items()}

    assert {name for name, route in routes.items() if route is not None} == operations
    for name, route in routes.items():
        if route is not None:
            assert route.target.decode() == base_url.path + OPERATIONS[name].path
            assert route.model_in_body
            assert not route.needs_done
            assert route.usage_option is (name == "chat")


def test_each_provider_says_which_credentials_it_takes() -> None:
    taken = {name: {kind.value for kind in each.identities} for name, each in DIALECTS.items()}

    assert taken == {
        "azure_openai": {"api_key", "bearer", "entra"},
        "openai": {"bearer", "none"},
        "oci": {"bearer", "oci"},
        "bedrock": {"bearer", "sigv4"},
        "vertex": {"google"},
    }


def test_an_unknown_provider_is_an_error() -> None:
    with pytest.raises(KeyError):
        dialect("smoke_signals")
