"""An `endorse` step: a person, or a policy by name, decides that one value counts as trusted from there on. The decision is recorded."""

from __future__ import annotations

import pytest
from firmplan import Engine, InputRejected, Plan, Policy, check, tool

ADDRESS = {"type": "string", "pattern": "^[a-z]+@[a-z.]+$"}


class Mail:
    """An untrusted page with addresses, and a write that takes one."""

    def __init__(self, *addresses):
        self.sent: list[str] = []

        @tool(effect="read", trust="untrusted", resource="web")
        def page(url: str = "x") -> list[str]:
            """Read the addresses of a page."""
            return list(addresses)

        @tool(effect="write", resource="mail")
        def send(to: str = "me@example.org") -> str:
            """Send a mail."""
            self.sent.append(to)
            return to

        @tool(effect="read", trust="trusted", resource="people")
        def people() -> list[str]:
            """Return the known addresses."""
            return ["ann@example.org"]

        @tool(effect="read", trust="trusted", private=True, resource="files")
        def secret_file() -> str:
            """Read a private file."""
            return "ann@example.org"

        self.tools = [page, send, people, secret_file]


PAGE = {"id": "p", "tool": "page"}
SEND = {"id": "s", "tool": "send", "args": {"to": "${to}"}}


def endorse(value="${p[0]}", **more):
    return {"id": "to", "endorse": value, "returns": ADDRESS, **more}


def plan_of(*steps, output="${s}", **more):
    return {"firmplan": 1, "steps": list(steps), "output": output, **more}


PLAN = plan_of(PAGE, endorse(), SEND)


def codes(plan, mail=None, **options):
    return {problem.code for problem in check(plan, (mail or Mail()).tools, **options).problems}


# --- what the check says


def test_an_endorsed_value_may_stand_in_a_write():
    assert codes(PLAN) == set()
    assert codes(plan_of(PAGE, {"id": "to", "set": "${p[0]}"}, SEND)) == {"unsafe-flow"}


@pytest.mark.parametrize(
    "step",
    [
        endorse(when="${len(p) == 1}"),
        endorse("ann@example.org", after=["p"]),
    ],
    ids=["when", "after"],
)
def test_nobody_is_asked_about_the_conditions_of_an_endorsement(step):
    assert codes(plan_of(PAGE, step, SEND)) - {"maybe-missing"} == {"untrusted-condition"}


def test_a_fallback_is_not_endorsed():
    step = endorse(on_error={"value": "me@example.org"})
    assert codes(plan_of(PAGE, step, SEND)) == {"unsafe-flow"}


def test_each_item_of_a_list_is_endorsed_by_itself():
    each = {"id": "to", "for_each": "${p}", "endorse": "${item}", "returns": ADDRESS}
    send = {"id": "s", "for_each": "${to}", "tool": "send", "args": {"to": "${item}"}}
    assert codes(plan_of(PAGE, each, send)) == set()


def test_an_inner_plan_endorses_what_it_is_given():
    inner = {
        "inputs": {"x": {"type": "string"}},
        "steps": [endorse("${inputs.x}"), SEND],
        "output": "${s}",
    }
    outer = {"id": "q", "plan": "mail", "args": {"x": "${p[0]}"}}
    # That the inner plan runs at all depends on what it is given, and nobody is asked about that.
    assert codes(plan_of(PAGE, outer, output="${q}", plans={"mail": inner})) == {"untrusted-condition"}


@pytest.mark.parametrize("is_inner", [False, True])
def test_what_is_private_stays_private(is_inner):
    steps = [endorse("${inputs.x}" if is_inner else "${f}"), SEND]
    read = {"id": "f", "tool": "secret_file"}
    if is_inner:
        inner = {"inputs": {"x": {"type": "string"}}, "steps": steps, "output": "${s}"}
        call = {"id": "q", "plan": "mail", "args": {"x": "${f}"}}
        plan = plan_of(read, call, output="${q}", plans={"mail": inner})
    else:
        plan = plan_of(read, *steps)
    assert codes(plan) == {"private-flow"}


def test_a_value_that_can_never_fit_is_a_fault():
    step = endorse() | {"returns": {"type": "integer"}}
    (problem,) = check(plan_of(PAGE, step, output="${to}"), Mail().tools).problems
    assert (problem.code, problem.path) == ("type-mismatch", "$.steps[1].endorse")


def test_a_policy_that_the_engine_does_not_have_is_a_fault():
    plan = plan_of(PAGE, endorse(by="suppliers"), SEND)
    assert codes(plan, policies=("suppliers",)) == set()
    (problem,) = check(plan, Mail().tools, policies=("supplier",)).problems
    assert (problem.code, problem.path, problem.hint) == (
        "unknown-policy",
        "$.steps[1].by",
        "did you mean 'supplier'?",
    )


def test_the_schema_may_not_be_left_out():
    step = {key: value for key, value in endorse().items() if key != "returns"}
    problem = check(plan_of(PAGE, step, output="${to}"), Mail().tools).problems[0]
    assert (problem.code, problem.path) == ("bad-shape", "$.steps[1].returns")


# --- a person


def test_a_person_allows_the_value_and_the_write_gets_it():
    mail = Mail("bob@example.org")
    with Engine(store="memory:", tools=mail.tools) as engine:
        run = engine.run_sync(PLAN)
        assert (run.status, run.steps["to"].reason, mail.sent) == ("waiting", "approval", [])
        (call,) = (engine.waiting_sync(run.id)).calls
        assert (call.tool, call.effect, call.is_controlled) == ("endorse", "pure", False)
        (argument,) = call.args
        assert (argument.name, argument.value, argument.is_labelled) == ("value", "bob@example.org", True)
        assert [origin.call for origin in argument.origins] == ["page()"]
        engine.approve_sync(run.id, "to", by="ann")
        run = engine.resume_sync(run.id)
        assert (run.status, run.output, mail.sent) == ("succeeded", "bob@example.org", ["bob@example.org"])
        assert "approved by ann" in (engine.explain_sync(run.id, "to")).sentence
        again = engine.replay_sync(run.id)
        assert (again.status, again.digest, mail.sent) == ("succeeded", run.digest, ["bob@example.org"])


def test_a_person_may_write_another_value_that_fits():
    mail = Mail("bob@example.org")
    with Engine(store="memory:", tools=mail.tools) as engine:
        run = engine.run_sync(PLAN)
        for edit in ({"value": "nobody"}, {"value": 7}, {"to": "ann@example.org"}):
            with pytest.raises(InputRejected, match="the edited value of step 'to'"):
                engine.approve_sync(run.id, "to", by="ann", edit=edit)
        engine.approve_sync(run.id, "to", by="ann", edit={"value": "ann@example.org"})
        run = engine.resume_sync(run.id)
        assert (run.status, mail.sent) == ("succeeded", ["ann@example.org"])


def test_a_denied_value_stops_what_refers_to_it():
    mail = Mail("bob@example.org")
    with Engine(store="memory:", tools=mail.tools) as engine:
        run = engine.run_sync(PLAN)
        engine.deny_sync(run.id, "to", by="ann", reason="unknown")
        run = engine.resume_sync(run.id)
        assert (run.status, mail.sent) == ("failed", [])


def test_nobody_is_asked_about_a_value_that_does_not_fit():
    mail = Mail("bob@example.org; rm -rf /")
    with Engine(store="memory:", tools=mail.tools) as engine:
        run = engine.run_sync(PLAN)
        assert (run.status, run.steps["to"].error.code, mail.sent) == ("failed", "bad-value", [])


def test_a_fork_takes_the_endorsed_value_and_asks_nobody_again():
    mail = Mail("bob@example.org")
    with Engine(store="memory:", tools=mail.tools) as engine:
        run = engine.run_sync(PLAN)
        engine.approve_sync(run.id, "to", by="ann", edit={"value": "ann@example.org"})
        engine.resume_sync(run.id)
        fork = engine.fork_sync(run.id, at="s", allow_writes=True)
        assert (fork.status, fork.output) == ("succeeded", "ann@example.org")
        # Asked to run again, the step asks again: nobody has decided about it in this run.
        fork = engine.fork_sync(run.id, at="to")
        assert (fork.status, fork.steps["to"].reason) == ("waiting", "approval")


def test_an_endorsement_outlives_the_process(tmp_path):
    mail = Mail("bob@example.org")
    with Engine(store=tmp_path / "s.db", tools=mail.tools) as engine:
        run = engine.run_sync(PLAN)
    with Engine(store=tmp_path / "s.db", tools=mail.tools) as engine:
        engine.approve_sync(run.id, "to", by="ann")
    with Engine(store=tmp_path / "s.db", tools=mail.tools) as engine:
        done = engine.resume_sync(run.id)
        assert (done.status, mail.sent) == ("succeeded", ["bob@example.org"])
        assert (engine.verify_sync(run.id)).ok


def test_every_item_waits_by_itself():
    mail = Mail("bob@example.org", "eve@example.org")
    each = {"id": "to", "for_each": "${p}", "endorse": "${item}", "returns": ADDRESS}
    send = {"id": "s", "for_each": "${to}", "tool": "send", "args": {"to": "${item}"}}
    with Engine(store="memory:", tools=mail.tools) as engine:
        run = engine.run_sync(plan_of(PAGE, each, send))
        engine.approve_sync(run.id, "to[0]", by="ann")
        assert mail.sent == []
        engine.approve_sync(run.id, "to[1]", by="ann")
        run = engine.resume_sync(run.id)
        assert (run.status, mail.sent) == ("succeeded", ["bob@example.org", "eve@example.org"])


# --- a policy

SAYS = {
    "allow": ("succeeded", ["bob@example.org"]),
    "ask": ("waiting", []),
    "deny": ("failed", []),
    None: ("waiting", []),
}


@pytest.mark.parametrize("verdict", SAYS)
def test_a_policy_decides_in_the_place_of_a_person(verdict):
    mail, seen = Mail("bob@example.org"), []

    def rule(value, labels):
        seen.append((value, labels.sources, labels.known))
        return verdict

    policies = [Policy("suppliers", "anything", "value", rule)]
    with Engine(store="memory:", tools=mail.tools, policies=policies) as engine:
        run = engine.run_sync(plan_of(PAGE, endorse(by="suppliers"), SEND))
        assert (run.status, mail.sent) == SAYS[verdict]
        assert seen[0] == ("bob@example.org", ("page",), False)
        if verdict == "deny":
            assert run.steps["to"].error.code == "policy-denied"
        ruled = [each for each in engine.events_sync(run.id) if each.type == "ApprovalRuled"]
        assert [each.data.get("rules") for each in ruled] == (
            [] if verdict == "deny" else [{"value": "suppliers"}]
        )
        if verdict == "allow":
            assert (engine.replay_sync(run.id)).status == "succeeded"
            assert len(seen) == 1


@pytest.mark.parametrize(
    ("address", "status"), [("ann@example.org", "succeeded"), ("eve@example.org", "waiting")]
)
def test_a_known_value_needs_nobody(address, status):
    mail = Mail(address)
    plan = plan_of({"id": "k", "tool": "people"}, PAGE, endorse(by="known", after=["k"]), SEND)
    with Engine(store="memory:", tools=mail.tools) as engine:
        assert (engine.run_sync(plan)).status == status


def test_a_policy_that_is_gone_allows_nothing(tmp_path):
    mail = Mail("bob@example.org")
    plan = plan_of(
        PAGE,
        endorse(by="suppliers", after=["w"]),
        SEND,
        {"id": "w", "endorse": "x", "returns": {"type": "string"}},
    )
    policy = Policy("suppliers", "*", "*", lambda value, labels: "allow")
    with Engine(store=tmp_path / "s.db", tools=mail.tools, policies=[policy]) as engine:
        run = engine.run_sync(plan)
    with Engine(store=tmp_path / "s.db", tools=mail.tools) as engine:
        engine.approve_sync(run.id, "w", by="ann")
        run = engine.resume_sync(run.id)
        assert (run.status, run.steps["to"].error.code, mail.sent) == ("failed", "unknown-policy", [])


def test_an_endorsement_is_part_of_the_digest():
    plans = [
        Plan.model_validate(plan_of(PAGE, step, SEND))
        for step in (endorse(), endorse(by="person"), endorse(by="known"))
    ]
    assert plans[0].digest == plans[1].digest != plans[2].digest
    assert "endorse by person" in plans[0].render()
