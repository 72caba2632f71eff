"""Credentials: each is sent where it belongs, to the address of the user alone, and stands in nothing that is kept or shown."""

from __future__ import annotations

import base64
import logging

import pytest
from firmplan import ConfigError, Engine, Secret, Toolset
from openapi_calls import call, document, operation

VALUE = 'k3y-"\\top/secret+value'
BASIC = base64.b64encode(f"ann:{VALUE}".encode()).decode()


@pytest.fixture(autouse=True)
def secret(monkeypatch):
    """The secret of these tests, in the environment."""
    monkeypatch.setenv("SHOP_KEY", VALUE)
    monkeypatch.setenv("SHOP_PAIR", f"ann:{VALUE}")
    monkeypatch.setenv("SHOP_ALONE", "sk_live_1")


KEY = Secret(env="SHOP_KEY")


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        ({"bearer": KEY}, "authorization", f"Bearer {VALUE}"),
        ({"bearer": {"env": "SHOP_KEY"}}, "authorization", f"Bearer {VALUE}"),
        ({"basic": KEY, "user": "ann"}, "authorization", f"Basic {BASIC}"),
        ({"basic": Secret(env="SHOP_PAIR")}, "authorization", f"Basic {BASIC}"),
        ({"basic": Secret(env="SHOP_ALONE")}, "authorization", "Basic c2tfbGl2ZV8xOg=="),
        ({"header": "X-Api-Key", "secret": KEY}, "x-api-key", VALUE),
        ([{"header": "X-A", "secret": KEY}, {"header": "X-B", "secret": KEY}], "x-b", VALUE),
        ({"cookie": "sid", "secret": KEY}, "cookie", "sid=k3y-%22%5Ctop%2Fsecret%2Bvalue"),
    ],
)
def test_a_credential_is_sent(echo, auth, header, value):
    """With each call, and masked in an answer that repeats it."""
    tools = Toolset.from_openapi(document({"/x": {"get": operation()}}), base_url=echo.url, auth=auth)
    run = call(tools)
    assert echo.last["headers"][header] == value
    assert run.status == "succeeded"
    assert VALUE not in str(run.output)
    assert value.split()[-1] not in str(run.output)
    assert "${secret(" in str(run.output)


def test_a_key_in_the_query(echo):
    """Encoded."""
    tools = Toolset.from_openapi(
        document({"/x": {"get": operation(parameters=[{"name": "q", "in": "query"}])}}),
        base_url=echo.url,
        auth={"query": "key", "secret": KEY},
    )
    call(tools, {"q": "a"})
    assert echo.last["query"] == "q=a&key=k3y-%22%5Ctop%2Fsecret%2Bvalue"


def test_a_secret_stands_in_nothing_that_is_kept_or_shown(echo, tmp_path, caplog):
    """Not in errors, journals, stores and bundles, logs, prompts of tools, fingerprints or representations; also where the server repeats it."""
    made = document({"/x": {"get": operation(), "post": operation(operationId="write")}})
    tools = Toolset.from_openapi(
        made, base_url=echo.url, auth=[{"bearer": KEY}, {"query": "key", "secret": KEY}]
    )
    leaks = [
        (404, {}, {"message": f"no key {VALUE}"}),
        (200, {}, {VALUE: [f"x{VALUE}x"]}),
        (500, {}, {"error": VALUE}),
    ]
    echo.answers["/x"] = leaks
    plan = {"firmplan": 1, "steps": [{"id": "a", "tool": "call"}], "output": "${a}"}
    with caplog.at_level(logging.DEBUG), Engine(tools=tools, store=str(tmp_path / "s.db")) as engine:
        for each in (plan, plan, {**plan, "steps": [{"id": "a", "tool": "write"}]}):
            run = engine.run_sync(each)
            engine.export_sync(run.id, tmp_path / f"{run.id}.bundle")
            shown = f"{run.output} {run.errors} {run.steps['a'].error} {run}"
            assert VALUE not in shown
            assert "k3y" not in shown
    assert len(echo.seen) == 3
    assert "k3y" not in caplog.text
    assert "k3y" not in str(tools.to_list())
    for tool in tools:
        assert "k3y" not in f"{tool.fingerprint_parts} {tool!r} {tool.fn!r} {vars(tool.fn)}"
    for file in tmp_path.iterdir():
        assert b"k3y" not in file.read_bytes(), file.name


@pytest.mark.parametrize("value", ["two\nlines", "a\r\nX-Admin: 1", "\u20ac", " padded "])
def test_a_secret_that_no_header_can_hold(echo, monkeypatch, value):
    """The message has no part of it, and nothing is sent."""
    monkeypatch.setenv("SHOP_KEY", value)
    tools = Toolset.from_openapi(
        document({"/x": {"get": operation()}}), base_url=echo.url, auth={"bearer": KEY}
    )
    (error,) = call(tools).errors
    assert "secret of the server (bearer) cannot be sent" in error.message
    assert value.strip() not in error.message
    assert echo.seen == []


def test_a_secret_that_is_not_set(echo, monkeypatch):
    monkeypatch.delenv("SHOP_KEY")
    tools = Toolset.from_openapi(
        document({"/x": {"get": operation()}}), base_url=echo.url, auth={"bearer": KEY}
    )
    (error,) = call(tools).errors
    assert (error.code, echo.seen) == ("no-secret", [])
    assert "SHOP_KEY is not set" in error.message


SCHEMES = {
    "securitySchemes": {
        "key": {"type": "apiKey", "in": "header", "name": "X-Key"},
        "token": {"type": "http", "scheme": "Bearer"},
        "login": {"type": "http", "scheme": "basic"},
        "oauth": {"type": "oauth2", "flows": {}},
        "tls": {"type": "mutualTLS"},
        "odd": {"type": "apiKey", "in": "header", "name": "X\r\nY"},
    }
}


def secured(paths, **more):
    return document(paths, components=SCHEMES, **more)


def test_schemes_of_the_document(echo):
    """An operation gets what it asks for: the first alternative that can be satisfied, nothing where it asks for nothing."""
    made = secured(
        {
            "/all": {"get": operation(operationId="all")},
            "/both": {
                "get": operation(operationId="both", security=[{"oauth": ["x"]}, {"key": [], "login": []}])
            },
            "/open": {"get": operation(operationId="open", security=[])},
            "/maybe": {"get": operation(operationId="maybe", security=[{}, {"token": []}])},
        },
        security=[{"token": []}],
    )
    auth = {"schemes": {"key": KEY, "token": KEY, "login": Secret(env="SHOP_PAIR")}}
    tools = Toolset.from_openapi(made, base_url=echo.url, auth=auth)
    sent = {}
    for name in ("all", "both", "open", "maybe"):
        assert call(tools, name=name).status == "succeeded"
        headers = echo.last["headers"]
        sent[name] = headers.get("authorization", "").split(" ")[0], headers.get("x-key")
    assert sent == {
        "all": ("Bearer", None),
        "both": ("Basic", VALUE),
        "open": ("", None),
        "maybe": ("", None),
    }


def test_what_is_missing_is_said_where_the_server_asks_for_it(echo):
    tools = Toolset.from_openapi(
        secured({"/x": {"get": operation(security=[{"oauth": []}])}}), base_url=echo.url
    )
    echo.answers["/x"] = 401, {}, b""
    (error,) = call(tools).errors
    assert error.code == "http-401"
    assert "the document asks for 'oauth', and `auth` has nothing for it" in error.message


@pytest.mark.parametrize(
    ("auth", "told"),
    [
        (VALUE, "text (not shown)"),
        ({"bearer": VALUE}, "text (not shown)"),
        ({"bearer": 5}, "found int"),
        ({"bearer": {"env": "A", "tools": []}}, "expected a Secret"),
        ({"bearer": {"env": "FIRMPLAN_KEY"}}, "a key of firmplan"),
        ({"bearer": {}}, "expected one of env, file and keyring"),
        ([VALUE], "text (not shown)"),
        ({"token": KEY}, "found the keys token"),
        ({"header": "X\r\nY", "secret": KEY}, "expected a name such as"),
        ({"basic": KEY, "user": "a:b"}, "without ':'"),
        ({"schemes": {"nothing": KEY}}, "has no security scheme 'nothing'"),
        ({"schemes": {"tls": KEY}}, "firmplan does not speak"),
        ({"schemes": {"odd": KEY}}, "firmplan does not speak"),
        ({"schemes": {"key": VALUE}}, "text (not shown)"),
    ],
)
def test_settings_that_are_wrong(auth, told):
    """No message shows a value."""
    with pytest.raises(ConfigError) as raised:
        Toolset.from_openapi(secured({"/x": {"get": operation()}}), base_url="http://127.0.0.1:1", auth=auth)
    assert told in str(raised.value)
    assert "k3y" not in str(raised.value)


def test_a_document_does_not_decide_who_gets_a_secret(echo):
    """With `auth`, the address is the user's; one with a password in it is refused."""
    made = document({"/x": {"get": operation()}}, servers=[{"url": "https://evil.example"}])
    with pytest.raises(ConfigError, match="secrets go only to an address that you name"):
        Toolset.from_openapi(made, auth={"bearer": KEY})
    assert len(Toolset.from_openapi(made)) == 1
    with pytest.raises(ConfigError, match="hand it over as auth") as raised:
        Toolset.from_openapi(made, base_url=f"https://ann:{VALUE}@example.org")
    assert VALUE not in str(raised.value)


def test_a_secret_follows_no_redirect(echo):
    """To another server, that is; see `test_failures.py`."""
    from http_app import Echo, Hosted

    tools = Toolset.from_openapi(
        document({"/x": {"get": operation()}}), base_url=echo.url, auth={"bearer": KEY}
    )
    with Hosted(Echo()) as other:
        echo.answers["/x"] = 307, {"Location": f"{other.url}/x"}, b""
        assert call(tools).errors[0].code == "redirected"
        assert other.app.seen == []


def test_another_secret_makes_no_other_tool(echo, monkeypatch):
    """A rotated key changes no fingerprint; another source does, since it may show other data."""
    made = document({"/x": {"get": operation()}})

    def fingerprint(auth):
        return Toolset.from_openapi(made, base_url=echo.url, auth=auth).get("call").fingerprint

    first = fingerprint({"bearer": KEY})
    monkeypatch.setenv("SHOP_KEY", "rotated")
    assert fingerprint({"bearer": KEY}) == first
    assert fingerprint({"bearer": Secret(env="SHOP_PAIR")}) != first
    assert fingerprint(None) != first
