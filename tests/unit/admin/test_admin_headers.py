"""What browsers are told of every answer."""

from router.admin.headers import CONSOLE_POLICY, NOTHING


def directives(policy: str) -> dict[str, list[str]]:
    parts = [part.split() for part in policy.split(";")]
    assert len({part[0] for part in parts}) == len(parts), "the second of the same name would be ignored"
    return {name: values for name, *values in parts}


def test_the_console_may_use_its_own_files_and_nothing_else() -> None:
    policy = directives(CONSOLE_POLICY)
    assert policy["default-src"] == ["'none'"]
    for name in ("script-src", "style-src", "img-src", "connect-src"):
        assert policy[name] == ["'self'"]
    for name in ("base-uri", "form-action", "frame-ancestors"):  # these do not fall back on default-src
        assert policy[name] == ["'none'"]
    assert policy["require-trusted-types-for"] == ["'script'"]


def test_data_may_do_nothing() -> None:
    policy = directives(NOTHING)
    assert policy["sandbox"] == []
    assert {tuple(values) for name, values in policy.items() if name != "sandbox"} == {("'none'",)}
