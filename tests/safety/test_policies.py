"""Policies: where untrusted data may stand without a person, who is asked, and what the journal says of it."""

from __future__ import annotations

from datetime import date
from enum import Enum
from typing import Annotated

import pytest
from firmplan import ConfigError, Engine, PlanRejected, Policy, ValueLabels, check, tool
from firmplan.plans.signature import is_narrow
from pydantic import Field


@tool(effect="read", trust="untrusted", resource="web")
def page() -> dict[str, str]:
    """Read a page."""
    return {"name": "bob", "mail": "bob@example.org", "evil": "eve@example.net", "stars": "5"}


@tool(effect="read", resource="contacts")
def contacts() -> list[dict[str, str]]:
    """List one's own contacts."""
    return [{"name": "ann", "mail": "ann@example.org"}, {"name": "bob", "mail": "bob@example.org"}]


class Kind(Enum):
    """The kinds of a note."""

    SHORT = "short"
    LONG = "long"


class Outbox:
    """A write, and all that went out."""

    def __init__(self, **options):
        self.sent = []

        @tool(effect="write", resource="mail", allow_untrusted=("body",), harmless=("urgent",), **options)
        def send(to: str, body: str = "", urgent: bool = False, copies: int = 1) -> str:
            """Send a mail."""
            self.sent.append((to, body, urgent, copies))
            return to

        self.tools = [page, contacts, send]


OUTSIDE = {"type": "string", "x-trust": "untrusted"}
PAGE, CONTACTS = {"id": "p", "tool": "page"}, {"id": "c", "tool": "contacts"}
BY_NAME = "${[x for x in c if x.name == p.name][0].mail}"


def plan(task=None, inputs=None, **args):
    made = {
        "firmplan": 1,
        "steps": [PAGE, CONTACTS, {"id": "s", "tool": "send", "args": args, "after": ["c"]}],
    }
    return made | ({"task": task} if task else {}) | ({"inputs": inputs} if inputs else {})


def test_only_results_that_a_step_waits_for_are_known(tmp_path):
    """Otherwise the verdict would depend on which of two calls was faster."""
    outbox = Outbox(approval="untrusted")
    wanted = plan(to="${p.mail}")
    del wanted["steps"][2]["after"]
    assert run_with(outbox, wanted, tmp_path)[0].status == "waiting"


def run_with(outbox, wanted, tmp_path, **options):
    with Engine(outbox.tools, store=tmp_path / "s.db", **options) as engine:
        run = engine.run_sync(wanted)
        rules = [
            event.data.get("rules") for event in engine.events_sync(run.id) if event.type == "ApprovalRuled"
        ]
        assert engine.replay_sync(run.id).digest == run.digest
        return run, rules, engine.explain_sync(run.id, "s")


# Arguments -> the rules by which nobody is asked; `None`: a person is.
ASKED = {
    "one of the contacts by a name in the page": ({"to": BY_NAME}, {"to": "selected"}),
    "an address that the page holds and the contacts hold, too": ({"to": "${p.mail}"}, {"to": "known"}),
    "an address that only the page holds": ({"to": "${p.evil}"}, None),
    "an address in the plan": ({"to": "${p.evil}", "body": "eve@example.net"}, {"to": "known"}),
    "a text that may be anything": ({"to": "ann@example.org", "body": "${p.evil}"}, {}),
    "a harmless truth value": (
        {"to": "ann@example.org", "urgent": "${p.name == 'bob'}"},
        {"urgent": "harmless"},
    ),
    "a number": ({"to": "ann@example.org", "copies": "${int(p.stars)}"}, None),
    "a harmless value beside another": ({"to": "${p.evil}", "urgent": "${p.name == 'bob'}"}, None),
    "a part of a known value": ({"to": "${p.mail[0:4]}"}, None),
    "a character of a trusted text": ({"to": "${c[0].name[len(p.name)-1]}"}, None),
}


@pytest.mark.parametrize("name", ASKED)
def test_a_person_is_asked_only_where_untrusted_data_could_choose_a_harm(name, tmp_path):
    args, rules = ASKED[name]
    outbox = Outbox(approval="untrusted")
    run, ruled, explained = run_with(outbox, plan(**args), tmp_path)
    if rules is None:
        assert (run.status, outbox.sent) == ("waiting", [])
        return
    assert (run.status, len(outbox.sent)) == ("succeeded", 1)
    assert ruled == ([rules] if rules else [None])
    for argument, rule in rules.items():
        assert f"the rule '{rule}' allowed the untrusted data in '{argument}'" in str(explained)


@pytest.mark.parametrize(
    ("task", "inputs", "is_asked"),
    [
        ("Write to eve@example.net, please.", None, False),
        ("Write to eve@example.net.", None, False),
        ("Write to steve@example.net", None, True),
        ("Write to eve@example.network", None, True),
        (None, {"who": {"type": "string", "default": "eve@example.net"}}, False),
        (None, {"who": {"type": "string", "default": "eve@example.net", "x-trust": "untrusted"}}, True),
        # The words of a task may hold what came from outside, which a saved plan reads out of them; no new word comes of cutting it out.
        ("Do this: mail eve@example.net", {"it": {**OUTSIDE, "default": "mail eve@example.net"}}, True),
        ("Write to steve@example.net: st", {"it": {**OUTSIDE, "default": "st"}}, True),
        ("Write to eve@example.net: now", {"it": {**OUTSIDE, "default": "now"}}, False),
    ],
)
def test_a_value_of_the_task_or_an_input_is_known(task, inputs, is_asked, tmp_path):
    outbox = Outbox(approval="untrusted")
    run, _, _ = run_with(outbox, plan(task, inputs, to="${p.evil}"), tmp_path)
    assert run.status == ("waiting" if is_asked else "succeeded")


def test_without_an_approval_only_static_rules_admit(tmp_path):
    """The check tells what it admits; nothing that depends on a value passes without a policy of the user."""
    outbox = Outbox()
    problems = check(plan(to=BY_NAME), outbox.tools).problems
    assert ("judged-flow", "$.steps[2].args.to") in [(found.code, found.path) for found in problems]
    run, ruled, explained = run_with(outbox, plan(to=BY_NAME), tmp_path)
    assert (run.status, ruled) == ("succeeded", [{"to": "selected"}])
    assert "the rule 'selected' allowed the untrusted data in 'to'" in str(explained)
    with pytest.raises(PlanRejected):
        run_with(outbox, plan(to="${p.mail}"), tmp_path)
    assert outbox.sent == [("bob@example.org", "", False, 1)]


@pytest.mark.parametrize("wanted", [plan(to=BY_NAME), plan(to="${p.mail}")], ids=["selected", "known"])
def test_strict_has_no_default_rules(wanted, tmp_path):
    with pytest.raises(PlanRejected) as caught:
        run_with(Outbox(), wanted, tmp_path, flow="strict")
    assert [found.code for found in caught.value.report.errors] == ["unsafe-flow"]
    run, _, _ = run_with(Outbox(approval="untrusted"), wanted, tmp_path, flow="strict")
    assert run.status == "waiting"


def known_only(value, labels):
    return "allow" if labels.known else None


def test_a_policy_lets_the_run_decide(tmp_path):
    """The check warns instead of refusing; at the call the policy's verdict counts, and no opinion is a refusal."""
    policy = Policy("known receivers", "send", "to", known_only)
    for flow in ("enforce", "strict"):
        outbox = Outbox()
        run, ruled, _ = run_with(outbox, plan(to="${p.mail}"), tmp_path, policies=[policy], flow=flow)
        assert (run.status, ruled) == ("succeeded", [{"to": "known receivers"}])
        run, ruled, _ = run_with(outbox, plan(to="${p.evil}"), tmp_path, policies=[policy], flow=flow)
        assert [(error.step, error.code) for error in run.errors] == [("s", "unsafe-flow")]
        assert len(outbox.sent) == 1


def test_deny_beats_ask_and_ask_beats_allow(tmp_path):
    def says(verdict):
        return Policy(f"says {verdict}", "s*", "*", lambda value, labels: verdict)

    allow, ask, deny = says("allow"), says("ask"), says("deny")
    cases = [
        ((allow,), "succeeded"),
        ((allow, ask), "waiting"),
        ((allow, ask, deny), "failed"),
        ((deny, allow), "failed"),
    ]
    for policies, status in cases:
        outbox = Outbox()
        run, _, _ = run_with(outbox, plan(to="${p.evil}"), tmp_path, policies=policies)
        assert run.status == status
        assert bool(outbox.sent) == (status == "succeeded")
        if status == "failed":
            assert run.errors[0].code == "policy-denied"
            assert "the policy 'says deny' denies the call 's' of 'send'" in run.errors[0].message


def test_policies_are_about_trusted_values_too(tmp_path):
    """A limit holds whoever wrote the value."""
    seen = []

    def at_most_three(value, labels):
        seen.append((value, labels))
        return "ask" if value > 3 else None

    policy = Policy("few copies", "send", "copies", at_most_three)
    outbox = Outbox()
    assert (
        run_with(outbox, plan(to="ann@example.org", copies=3), tmp_path, policies=[policy])[0].status
        == "succeeded"
    )
    assert (
        run_with(outbox, plan(to="ann@example.org", copies=4), tmp_path, policies=[policy])[0].status
        == "waiting"
    )
    assert seen[0] == (3, ValueLabels())
    assert not seen[0][1].untrusted


def test_a_policy_is_told_where_a_value_comes_from(tmp_path):
    seen = []
    policy = Policy("p", "send", "to", lambda value, labels: seen.append((value, labels)))
    run_with(Outbox(approval="untrusted"), plan(to=BY_NAME), tmp_path, policies=[policy])
    assert seen[0] == ("bob@example.org", ValueLabels(("page",), known=True, fits="selected"))


@pytest.mark.parametrize("rule", [lambda value, labels: 1 / 0, lambda value, labels: "perhaps"])
def test_a_policy_that_fails_asks_a_person(rule, tmp_path):
    run, _, _ = run_with(
        Outbox(), plan(to=BY_NAME), tmp_path, policies=[Policy("broken", "send", "to", rule)]
    )
    assert run.status == "waiting"


def test_a_faulty_policy_is_refused_with_words():
    with pytest.raises(ConfigError, match="rule: expected a function of"):
        Policy("p", "send", "to", "allow")
    with pytest.raises(ConfigError, match="tool: expected a text"):
        Policy("p", "", "to", known_only)
    with pytest.raises(ConfigError, match="policies: expected a list of Policy"):
        Engine([page], store="memory:", policies=["p"])


def test_harmless_parameters_are_narrow():
    @tool(effect="write", harmless=("day", "stars", "kind"))
    def note(
        day: date | None = None,
        stars: Annotated[int, Field(ge=1, le=5)] | None = None,
        kind: Kind | None = None,
    ) -> str:
        """Write."""
        return f"{day} {stars} {kind}"

    assert note.harmless == ("day", "kind", "stars")
    with pytest.raises(ConfigError, match="harmless: expected a parameter of a narrow type"):

        @tool(effect="write", harmless=("text",))
        def write(text: str) -> str:
            """Write."""
            return text

    with pytest.raises(ConfigError, match="harmless: expected parameters of the tool"):

        @tool(effect="write", harmless=("texts",))
        def write_again(text: bool) -> str:
            """Write."""
            return str(text)


def test_the_schema_of_a_parameter_may_name_itself():
    """A schema of an MCP server may; it has no narrow type."""
    circle = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "null"}]}}}
    assert not is_narrow({**circle, "properties": {"x": {"$ref": "#/$defs/a"}}}, "x")


@pytest.mark.parametrize(("allowed", "status"), [(("mail", "tag"), "succeeded"), (("mail",), "waiting")])
def test_who_may_choose_every_argument_may_choose_how_often(allowed, status, tmp_path):
    """A tool that leaves one argument closed asks about each call that untrusted data decides about."""

    @tool(effect="write", resource="mail", approval="untrusted", allow_untrusted=allowed)
    def label(mail: str, tag: str = "news") -> str:
        """Label a mail."""
        return mail

    steps = [PAGE, {"id": "s", "tool": "label", "for_each": "${values(p)}", "args": {"mail": "${item}"}}]
    with Engine([page, label], store=tmp_path / "s.db") as engine:
        assert engine.run_sync({"firmplan": 1, "steps": steps}).status == status
