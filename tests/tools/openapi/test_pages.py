"""Lists by pages: the tool returns the whole list, or fails; it never returns a part in silence."""

from __future__ import annotations

import json
from urllib.parse import parse_qs

import pytest
from firmplan import ConfigError, Secret, Toolset
from firmplan.tools.openapi.pages import found_at, next_link
from firmplan.tools.openapi.server import Answer
from http_app import Echo, Hosted
from openapi_calls import call, document, operation

ITEMS = [{"id": number} for number in range(25)]
ITEM = {"type": "object", "properties": {"id": {"type": "integer"}}}
LISTING = operation(
    parameters=[{"name": name, "in": "query", "schema": {}} for name in ("page", "after", "q")],
    responses={"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Page"}}}}},
)
PAGE = {"type": "object", "properties": {"data": {"type": "array", "items": ITEM}, "next": {}, "more": {}}}


def tools(echo, pages, listing=LISTING, **settings):
    made = document(
        {"/items": {"get": listing, "post": operation(operationId="add")}},
        components={"schemas": {"Page": PAGE}},
    )
    return Toolset.from_openapi(made, base_url=echo.url, pages={"call": pages}, **settings)


def by_page(came):
    number = int(parse_qs(came["query"])["page"][0])
    return 200, {}, {"data": ITEMS[(number - 1) * 10 : number * 10], "more": number < 3}


def by_cursor(came):
    start = int(parse_qs(came["query"]).get("after", ["0"])[0])
    return 200, {}, {"data": ITEMS[start : start + 10], "next": start + 10 if start < 20 else None}


def by_link(came):
    start = int(parse_qs(came["query"]).get("from", ["0"])[0])
    links = (
        f'<https://example.org/>; rel="first", </items?from={start + 10}&q=a>; title="a, b"; rel="next last"'
    )
    return 200, {"link": links} if start < 20 else {}, json.loads(json.dumps(ITEMS[start : start + 10]))


@pytest.mark.parametrize(
    ("pages", "answer", "asked"),
    [
        ({"by": "page", "argument": "page", "items": "data"}, by_page, 4),
        ({"by": "page", "argument": "page", "items": "data", "more": "more"}, by_page, 3),
        ({"by": "cursor", "argument": "after", "items": "data", "cursor": "next"}, by_cursor, 3),
        ({"by": "link"}, by_link, 3),
    ],
)
def test_the_whole_list(echo, pages, answer, asked):
    """With the other arguments on each page; the argument of the pages is no argument of the tool."""
    echo.answers["/items"] = answer
    made = tools(echo, pages)
    run = call(made, {"q": "a"})
    assert run.output == ITEMS
    assert len(echo.seen) == asked
    assert all("q=a" in each["query"] for each in echo.seen)
    tool = made.get("call")
    assert pages.get("argument") not in tool.parameters["properties"]
    if "items" in pages:
        assert tool.returns["items"] == ITEM


def test_the_last_item_may_be_the_cursor(echo):
    """As in Stripe's lists."""

    def answer(came):
        start = int(parse_qs(came["query"]).get("after", ["-1"])[0]) + 1
        return 200, {}, {"data": ITEMS[start : start + 10], "more": start + 10 < 25}

    echo.answers["/items"] = answer
    pages = {"by": "cursor", "argument": "after", "items": "data", "cursor": "data.-1.id", "more": "more"}
    assert call(tools(echo, pages)).output == ITEMS


def test_a_list_that_goes_on_is_no_part_of_a_list(echo):
    """It fails, and says how to have more."""
    echo.answers["/items"] = by_page
    made = tools(echo, {"by": "page", "argument": "page", "items": "data", "most": 2})
    (error,) = call(made).errors
    assert error.code == "limit-exceeded"
    assert "more than 2 pages" in error.message


def test_a_server_that_leads_in_a_circle(echo):
    echo.answers["/items"] = lambda _: (200, {}, {"data": [1], "next": "same"})
    made = tools(echo, {"by": "cursor", "argument": "after", "items": "data", "cursor": "next"})
    (error,) = call(made).errors
    assert (error.code, len(echo.seen)) == ("bad-result", 2)


def test_a_failure_of_a_later_page_fails_the_call(echo):
    echo.answers["/items"] = [by_page, (500, {}, b"")]
    (error,) = call(tools(echo, {"by": "page", "argument": "page", "items": "data"})).errors
    assert error.code == "http-500"


def test_an_answer_without_a_list(echo):
    echo.answers["/items"] = lambda _: (200, {}, {"rows": []})
    (error,) = call(tools(echo, {"by": "page", "argument": "page", "items": "data"})).errors
    assert "expected a list at 'data'" in error.message


def test_a_next_page_at_another_server_is_not_asked(echo, monkeypatch):
    """It would get the key."""
    monkeypatch.setenv("SHOP_KEY", "k3y-1234")
    with Hosted(Echo()) as other:
        echo.answers["/items"] = 200, {"link": f'<{other.url}/items>; rel="next"'}, [1]
        made = tools(echo, {"by": "link"}, auth={"query": "key", "secret": Secret(env="SHOP_KEY")})
        (error,) = call(made).errors
        assert (error.code, other.app.seen) == ("redirected", [])


@pytest.mark.parametrize(
    ("pages", "told"),
    [
        ("link", "expected a mapping"),
        ({}, "by: expected link, page and cursor"),
        ({"by": "links"}, "by: expected"),
        ({"by": "link", "argment": "x"}, "did you mean 'argument'"),
        ({"by": "link", "argument": "page"}, "leave them out"),
        ({"by": "page"}, "argument: expected one of its query arguments"),
        ({"by": "page", "argument": "size"}, "found 'size'"),
        ({"by": "cursor", "argument": "after"}, "as `cursor`"),
        ({"by": "page", "argument": "page", "most": 0}, "most: expected a number of at least 1"),
        ({"by": "page", "argument": "page", "items": 5}, "items: expected text"),
    ],
)
def test_settings_that_are_wrong(echo, pages, told):
    with pytest.raises(ConfigError) as raised:
        tools(echo, pages)
    assert told.replace(" and ", " and ") in str(raised.value) or told.split(" and ")[0] in str(raised.value)


def test_only_reads_have_pages(echo):
    made = document({"/items": {"post": operation()}})
    with pytest.raises(ConfigError, match="an operation that reads"):
        Toolset.from_openapi(made, base_url=echo.url, pages={"call": {"by": "link"}})


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("", None),
        ("</b>; rel=next", "http://h/b"),
        ('<b?x=1,2>; rel="prev", <c>; rel="NEXT"', "http://h/a/c"),
        ('<b>; title="<x>; rel=next"', None),
        ("<b>; rel=nextish", None),
        ("<" * 50_000, None),
        ("<b>" + "; a" * 10_000, None),
    ],
)
def test_link_headers(header, found):
    """RFC 8288, in linear time."""
    assert next_link(Answer(200, "http://h/a/b", {"link": header}, b"")) == found


def test_paths_in_answers():
    value = {"a": [{"b": 1}, {"b": 2}], "c": "text"}
    paths = {"a.0.b": 1, "a.-1.b": 2, "a.9.b": None, "a.x": None, "c.0": None, "c": "text", "": None}
    assert {path: found_at(value, path) for path in paths} == paths
