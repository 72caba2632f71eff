"""Private data reaches its readers alone: at the check, and again right before each call, whatever way the plan came."""

from __future__ import annotations

import asyncio
import json

import pytest
from firmplan import ConfigError, Engine, Model, PlanRejected, check, tool
from firmplan.executor.journal.toolset_lock import ToolLock
from firmplan.testing import ScriptedModel
from firmplan.tools import Models
from firmplan.tools.agents.agent import agent
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
            """Shorten ${text}."""

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


# --- at run time


def started(tools, plan, inputs=None, **facilities):
    """Run a plan that passed no check; return the run and its replay's digest."""

    async def main():
        async with Rig(tools, **facilities) as rig:
            rest = {key: value for key, value in plan.items() if key != "steps"}
            run = await rig.run(plan_of(*plan["steps"], **rest), "r", inputs=inputs)
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
            return run

    return asyncio.run(main())


def failures(run):
    return {path: step.error.code for path, step in run.steps.items() if step.error is not None}


RECIPIENTS = {
    "ann@example.org": True,
    "ANN@Example.org": True,
    "ann@mail.example.org": True,
    "example.org": True,
    "https://example.org/a?b=c#d": True,
    "http://api.example.org:8080/": True,
    "bob@other.example": True,
    "ann": False,
    "": False,
    "ann@example.com": False,
    "ann@notexample.org": False,
    "ann@example.org.evil.example": False,
    "ann@example.org, eve@evil.example": False,
    "ann@example.org;eve@evil.example": False,
    "ann@example.org\neve@evil.example": False,
    "ann@example.org\u200b": False,
    "Ann <ann@example.org>": False,
    "eve@evil.example@example.org": False,
    "https://example.org@evil.example/": False,
    "https://ann@example.org/": False,
    "https://evil.example/?example.org": False,
    "https://evil.example#example.org": False,
    "https://evil.example\\@example.org/": False,
    "https://evil.example\\.example.org/": False,
    "https://evil.example/@example.org": False,
    "//example.org/": False,
    "https:/example.org": False,
    "ftp://example.org/": False,
    "file://example.org/etc/passwd": False,
    "https://[::1]/example.org": False,
    "https://[example.org/": False,
    "https://%65xample.org/": False,
    "evil.example/example.org": False,
    "evil.example?x=.example.org": False,
    "evil.example:80#example.org": False,
    "search": False,
}


@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_the_recipient_of_the_call_is_compared_with_the_readers(recipient):
    world = World(("example.org", "bob@other.example", "search", "model"))
    plan = {"inputs": {"to": TO}, "steps": [VAULT, MAIL | {"args": {"to": "${inputs.to}", "body": "${v}"}}]}
    assert codes(plan, world.tools) == LATER
    run = started(world.tools, plan, {"to": ["ann@example.org", recipient]})
    assert (run.status == "succeeded") is RECIPIENTS[recipient]
    assert failures(run) == ({} if RECIPIENTS[recipient] else {"m": "private-flow"})
    assert bool(world.sent) is RECIPIENTS[recipient]


def test_a_call_to_nobody_reaches_no_reader():
    world = World(("example.org",))
    plan = {"inputs": {"to": TO}, "steps": [VAULT, MAIL | {"args": {"to": "${inputs.to}", "body": "${v}"}}]}
    assert failures(started(world.tools, plan, {"to": []})) == {"m": "private-flow"}


def test_a_private_part_of_a_url_goes_to_the_host_of_the_url():
    world = World(("example.org",))
    run = started(world.tools, {"steps": [VAULT, FETCH]})
    assert (run.status, world.sent) == ("succeeded", [("fetch", "https://example.org/4711")])


def approved(tools, plan, step, **facilities):
    """Run a plan that passed no check, and approve one step of it."""

    async def main():
        async with Rig(tools, **facilities) as rig:
            run = await rig.run(plan_of(*plan["steps"]), "r")
            if run.status == "waiting":
                await rig.decisions.approve("r", step, by="ann", edit=None)
                run = await rig.resume("r")
            assert (await rig.execution.replays.replay("r", keep=False)).digest == run.digest
            return run

    return asyncio.run(main())


@pytest.mark.parametrize("approval", ["always", "untrusted", lambda args: True])
def test_an_approval_does_not_make_a_reader(approval):
    """It answers whether the call is wanted, not whose data it is."""
    world = World(approval=approval)
    assert codes({"steps": [VAULT, FETCH]}, world.tools) == REFUSED
    run = approved(world.tools, {"steps": [VAULT, FETCH]}, "f")
    assert (run.status, failures(run), world.sent) == ("failed", {"f": "private-flow"}, [])


def test_a_person_may_approve_an_untrusted_url(tmp_path):
    world = World(approval="untrusted")
    plan = {
        "firmplan": 1,
        "steps": [PAGE, {"id": "f", "tool": "fetch", "args": {"url": "${p}"}}],
        "output": "${f}",
    }
    with Engine(world.tools, store=tmp_path / "s.db") as engine:
        run = engine.run_sync(plan)
        assert (run.status, world.sent) == ("waiting", [])
        engine.approve_sync(run.id, "f", by="ann")
        assert engine.resume_sync(run.id).status == "succeeded"
    assert world.sent == [("fetch", "https://evil.example")]


def test_a_tool_may_allow_untrusted_urls():
    world = World(allow_untrusted=("url",))
    plan = {"steps": [PAGE, {"id": "f", "tool": "fetch", "args": {"url": "${p}"}}], "output": "${f}"}
    assert codes(plan, world.tools) == FINE
    assert started(world.tools, plan).status == "succeeded"


WHERE_PRIVATE_DATA_DECIDES = [name for name, each in FLOWS.items() if each[2] == WARNED]


@pytest.mark.parametrize("name", WHERE_PRIVATE_DATA_DECIDES)
def test_strict_refuses_requests_that_private_data_decides_about(name, tmp_path):
    readers, plan, _ = FLOWS[name]
    world = World(readers)
    with Engine(world.tools, store=tmp_path / "s.db", flow="strict") as engine:
        with pytest.raises(PlanRejected) as caught:
            engine.run_sync({"firmplan": 1, **plan})
        assert {found.code for found in caught.value.report.errors} == WARNED
    run = started(world.tools, plan, flow="strict")
    assert set(failures(run).values()) >= WARNED
    assert world.sent == []
    assert started(world.tools, plan).status == "succeeded"
    assert world.sent != []


@pytest.mark.parametrize(("flow", "sent"), [("warn", 1), ("off", 1), ("enforce", 0), ("strict", 0)])
def test_the_flow_of_the_engine_counts(flow, sent, tmp_path):
    world = World()
    plan = {"firmplan": 1, "steps": [VAULT, {"id": "n", "tool": "note", "args": {"text": "${v}"}}]}
    with Engine(world.tools, store=tmp_path / "s.db", flow=flow) as engine:
        if sent:
            assert engine.run_sync(plan).status == "succeeded"
        else:
            with pytest.raises(PlanRejected):
                engine.run_sync(plan)
    assert len(world.sent) == sent


# --- secrets

CALL = {"id": "f", "tool": "fetch", "args": {"url": "${p}", "key": '${secret("K")}'}}


@pytest.mark.parametrize(
    "options", [{}, {"allow_untrusted": ("url",)}, {"approval": "untrusted"}, {"approval": "always"}]
)
def test_untrusted_data_does_not_choose_who_gets_a_secret(options):
    """Neither leave nor an approval of the URL is about the secret beside it."""
    world = World(**options)
    secrets = {"secrets": {"K": "s3cret"}}
    assert "private-flow" in codes({"steps": [PAGE, CALL]}, world.tools)
    run = approved(world.tools, {"steps": [PAGE, CALL]}, "f", **secrets)
    assert (failures(run), world.sent) == ({"f": "private-flow"}, [])
    fixed = CALL | {"args": CALL["args"] | {"url": "https://example.org"}}
    assert "private-flow" not in codes({"steps": [PAGE, fixed]}, world.tools)
    inner = {
        "q": {
            "inputs": {"p": {"type": "string"}},
            "steps": [CALL | {"args": CALL["args"] | {"url": "${inputs.p}"}}],
        }
    }
    for given, code in (("${p}", {"private-flow"}), ("https://example.org", set())):
        plan = {"plans": inner, "steps": [PAGE, {"id": "r", "plan": "q", "args": {"p": given}}]}
        assert codes(plan, world.tools) & {"private-flow"} == code


def test_without_egress_what_looks_like_an_address_counts():
    @tool(effect="read", resource="api")
    def call_api(url: str, query: str, key: str) -> str:
        """Call an API."""
        return url

    @tool(effect="read", resource="api", allow_untrusted=("url",))
    def allowed(url: str, query: str, key: str) -> str:
        """Call an API."""
        return url

    tools = [*World().tools, call_api, allowed]
    for name, args, found in (
        ("call_api", {"url": "${p}", "query": "q"}, REFUSED),
        ("call_api", {"url": "https://example.org", "query": "${p}"}, FINE),
        ("allowed", {"url": "${p}", "query": "q"}, FINE),
    ):
        step = {"id": "c", "tool": name, "args": args | {"key": '${secret("K")}'}}
        assert codes({"steps": [PAGE, step], "output": "${c}"}, tools) == found


# --- tools that have changed


def test_what_has_become_private_since_is_private(tmp_path):
    """The stricter of the lock and the present tools counts, for the source, its readers and the egress."""
    now = World(("note",))

    @tool(effect="read", resource="vault", name="vault")
    def open_vault() -> str:
        """Read what was not private."""
        return "4711"

    @tool(effect="pure", approval="always", name="gate")
    def gate() -> str:
        """Let a run wait for a person."""
        return "open"

    plan = {
        "firmplan": 1,
        "steps": [
            {"id": "g", "tool": "gate"},
            VAULT | {"after": ["g"]},
            {"id": "n", "tool": "note", "args": {"text": "${v}"}, "on_error": "skip"},
            {"id": "s", "tool": "search", "args": {"query": "${v}"}},
        ],
    }
    before = [each for each in now.tools if each.name != "vault"]
    with Engine([*before, open_vault, gate], store=tmp_path / "s.db") as engine:
        run = engine.run_sync(plan)
        assert run.status == "waiting"
        engine.approve_sync(run.id, "g", by="ann")
    with Engine([*now.tools, gate], store=tmp_path / "s.db") as engine:
        run = engine.resume_sync(run.id)
        assert failures(run) == {"s": "private-flow"}
        assert now.sent == [("note", "4711")]
        assert engine.replay_sync(run.id).digest == run.digest


def test_a_lock_keeps_the_declarations_and_leaves_out_those_that_are_none():
    lock = {each.name: ToolLock.of(each) for each in World(("note", "example.org")).tools}
    assert ToolLock.from_dict(lock["vault"].to_dict()) == lock["vault"]
    assert lock["vault"].to_dict()["readers"] == ["example.org", "note"]
    assert lock["fetch"].to_dict()["egress"] == ["url"]
    assert not {"private", "readers", "egress"} & set(lock["note"].to_dict())


def test_private_declarations_are_checked():
    def one() -> int:
        """Return 1."""
        return 1

    with pytest.raises(ConfigError, match="egress: expected parameters of the tool"):
        tool(one, egress=("url",))
    with pytest.raises(ConfigError, match="readers: expected names"):
        tool(one, readers=[1])
    with pytest.raises(ConfigError, match="private: expected True or False"):
        tool(one, private="yes")
    assert tool(one, readers=("a",)).private
