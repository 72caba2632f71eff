"""What a model is told: the format, worked examples that hold, signatures, the tools that the task points to."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import firmplan
import jsonschema_rs
import pytest
from firmplan import Plan, Planner, SavedPlan, Tool, Toolset, check
from firmplan.planner.drafting.failure_report import FailureReport, StepState
from firmplan.planner.drafting.form import plan_answer
from firmplan.planner.drafting.prompt import (
    NOT_SHOWN,
    PROMPTS,
    SMALL_PROMPTS,
    patch_messages,
    prompt_version,
    repair_messages,
    text_of,
    unread_messages,
)
from firmplan.planner.drafting.signatures import shown_schema, signature_line
from firmplan.planner.drafting.tool_choice import choose_tools
from firmplan.planner.library.retrieval import search_terms
from firmplan.plans.edit.patch import Patch, apply_patch
from firmplan.plans.expressions.functions import FUNCTIONS, METHODS
from firmplan.plans.reports.problems import problem
from firmplan.plans.values import digest
from firmplan.testing import unmarked
from firmplan.tools.models.marks import DATA_NOTE
from planning import asked

TEXT = {"type": "string"}


def fake(name, parameters=(), returns=TEXT, description="", **options):
    """Return a tool by its signature."""
    properties = dict.fromkeys(parameters, TEXT)
    schema = {"type": "object", "properties": properties, "required": list(parameters)}
    return Tool.from_callable(
        lambda **_: None, name=name, parameters=schema, returns=returns, description=description, **options
    )


def closed(**fields):
    return {"type": "object", "properties": fields, "required": list(fields)}


FILES = {"type": "array", "items": closed(path=TEXT, bytes={"type": "integer"})}
EXAMPLE_TOOLS = Toolset(
    [
        fake("weather", ["city"], closed(celsius={"type": "number"}, sky=TEXT), effect="read"),
        fake("send_mail", ["to", "body"], closed(id=TEXT)),
        fake("list_files", ["folder"], FILES, effect="read"),
        fake("read_file", ["path"], effect="read"),
    ]
)


def system():
    return asked()[0].content


def examples():
    return [json.loads(text) for text in re.findall(r"```json\n(.*?)```", system(), re.DOTALL)]


@pytest.mark.parametrize("number", range(2))
def test_the_worked_examples_are_plans_without_a_doubt(number):
    """What models are shown passes the check, with no warning, against the tools that the prompt lists."""
    report = check(examples()[number], EXAMPLE_TOOLS)
    assert report.problems == ()


def test_the_examples_tools_are_listed_as_tools_are():
    """The prompt's list of example tools is what their signatures read like."""
    for tool in EXAMPLE_TOOLS:
        assert signature_line(tool) in system()


def test_the_patchs_example_is_told_as_incidents_are():
    """Tools, plan and states read as they are told of a run; the patch can be applied, and what comes of it passes."""
    hits = {"type": "array", "items": closed(title=TEXT, url=TEXT)}
    tools = Toolset([fake("search", ["words"], hits, effect="read"), fake("fetch", ["url"], effect="read")])
    shown = patch_messages("", [])[0].content
    plan_text, answer = re.findall(r"```json\n(.*?)\n```", shown, re.DOTALL)
    plan = Plan.model_validate(json.loads(plan_text))
    states = {
        "hits": StepState("succeeded"),
        "pages": StepState("failed", "items-failed", parts={"succeeded": 2, "failed": 1}),
        "gist": StepState("skipped", reason="dependency-failed"),
    }
    told = FailureReport(plan, states, check(plan, tools).types).rendered()
    lines = [line for line in told.splitlines() if line.startswith("- ")]
    assert len(lines) == 3
    for line in (plan_text, *lines, *map(signature_line, tools)):
        assert line in shown
    patch = Patch.of(json.loads(answer)["operations"])
    assert check(apply_patch(plan, patch), tools).problems == ()


def test_nothing_of_a_toolset_is_left_out():
    """Signatures say names, types, defaults and what a call may do."""
    parameters = {
        "type": "object",
        "properties": {
            "to": TEXT,
            "copies": {"type": "integer", "default": 1},
            "cc": {"type": ["string", "null"]},
        },
        "required": ["to"],
    }
    tool = Tool.from_callable(
        lambda **_: None,
        name="mail",
        parameters=parameters,
        returns=None,
        description="Send a mail.\nTwice.",
        approval="always",
        trust="untrusted",
        allow_untrusted=["cc"],
    )
    assert signature_line(tool).splitlines() == [
        (
            "- mail(to: text, cc?: text or null, copies: integer = 1) -> anything  "
            "[write, a person approves, untrusted result, takes untrusted values in cc]"
        ),
        "    Send a mail. Twice.",
    ]


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({}, "anything"),
        (TEXT, "text"),
        ({"enum": ["a", 1]}, '"a"|1'),
        ({"const": None}, "null"),
        ({"anyOf": [TEXT, {"type": "null"}]}, "text or null"),
        ({"type": "array"}, "list"),
        (FILES, "list of {path: text, bytes: integer}"),
        (
            {"type": "object", "properties": {"a": TEXT, "b": {"type": "boolean"}}, "required": ["a"]},
            "{a: text, b?: boolean}",
        ),
        ({"type": "object"}, "object"),
        ({"type": "object", "additionalProperties": {"type": "number"}}, "object of number"),
        ({"$ref": "#/$defs/T", "$defs": {"T": {"type": "array", "items": TEXT}}}, "list of text"),
        ({"$ref": "#/$defs/T", "$defs": {"T": closed(next={"$ref": "#/$defs/T"})}}, "{next: {next: object}}"),
    ],
)
def test_schemas_are_shown_in_short(schema, shown):
    """Types read as people write them; what refers to itself ends."""
    assert shown_schema(schema) == shown


def test_a_large_toolset_is_searched_by_the_tasks_words():
    """Up to thirty tools are shown as they are; of more, those that names and descriptions point to."""
    few = [fake(f"tool_{number:02}") for number in range(30)]
    assert [each.name for each in choose_tools("anything", few)] == [each.name for each in few]
    many = [
        *few,
        fake("getInvoice", ["number"], description="Fetch one bill."),
        fake("convert", description="Turn currencies into one another."),
    ]
    for task, name in (("Show all invoices", "getInvoice"), ("In which currency?", "convert")):
        chosen = [each.name for each in choose_tools(task, many)]
        assert len(chosen) == 30
        assert name in chosen
        assert chosen == sorted(chosen)
    assert len(choose_tools("", many)) == 30


def test_words_are_found_in_names():
    """Camel and snake case are words; common words are none."""
    assert search_terms("getInvoices of the HTTPServer_log2") == [
        "get",
        "invoice",
        "http",
        "server",
        "log",
        "2",
    ]


def test_repairs_are_bounded():
    """Of many faults the first are sent, with their number; a draft is cut, not its faults."""
    faults = [problem("unknown-ref", f"$.steps[{number}]", "m", "h") for number in range(50)]
    draft, plea = repair_messages("x" * 100_000, faults)
    assert len(draft.content) == 60_000
    assert "$.steps[19]" in plea.content
    assert "$.steps[20]" not in plea.content
    assert "and 30 more" in plea.content


def test_every_prompt_is_a_file_and_part_of_the_version():
    """All that plannings say is in files, and another text is another version; `pair` is what judges are asked."""
    files = {
        path.name for path in (Path(firmplan.__file__).parent / "planner" / "drafting" / "prompts").iterdir()
    }
    assert files == {f"{name}.md" for name in (*PROMPTS, *SMALL_PROMPTS, "pair")}
    assert prompt_version() == digest("\n".join([*map(text_of, PROMPTS), DATA_NOTE]).encode())


def test_requests_are_told_apart_by_their_beginnings():
    """As the page says, for scripts of answers."""
    page = (Path(firmplan.__file__).parent / "docs" / "PLANNER.md").read_text(encoding="utf-8")
    begins = re.findall(r"`(You [^`]+|A plan ran)`", page.partition("## Testing")[2])
    texts = [text_of(name) for name in ("adapt", "choose", "plan", "patch")]
    assert [text.startswith(begin) for text, begin in zip(texts, begins, strict=True)] == [True] * 4


def test_a_prompt_reads_as_it_should():
    """Tools, that there are more of them, examples, given inputs, the task, in this order; then an answer that was none."""
    tool = fake("weather", ["city"], description="Tell the weather.", effect="read")
    plan = {"firmplan": 1, "task": "Tell it", "steps": [{"id": "a", "set": 1}], "output": "${a}"}
    saved = [SavedPlan("tell", Plan.model_validate(plan))]
    others = [fake(f"other_{number}") for number in range(23)]
    words = asked([tool], "Is it warm?", inputs={"city": "Rome"}, examples=saved, others=others)[1].content
    assert re.search(r"<plan-(\d+)>\nTask: Tell it\n.*```\n</plan-\1>\n", words, re.DOTALL)
    assert (
        unmarked(words).replace(f"{DATA_NOTE}\n\n", "")
        == """# Tools

- weather(city: text) -> text  [read]
    Tell the weather.

These are 1 of 24 tools, chosen for the task. Where it needs one that is not among them, call it by the name that you would \
give it: you will be shown those that are like it, and asked again.

# Plans for other tasks, with these tools

Task: Tell it

```json
{"firmplan":1,"steps":[{"id":"a","set":1}],"output":"${a}"}
```

# Given inputs

Declare each of these under `inputs` with this schema, and use it:
- "city": {"type":"string"}

# Task

Is it warm?"""
    )
    said, again = unread_messages("Hm. {}", "no {JSON}")
    assert said.content == "Hm. {}"
    assert again.content == (
        "That is no plan: no {JSON}\nAnswer with the whole plan, as one JSON object and nothing else."
    )


def test_tools_that_a_fault_names_are_shown_with_it():
    """Of a large toolset a hint may point to a tool that was not shown: its signature comes with the fault."""
    faults = [
        problem("unknown-tool", "$.steps[0].tool", "there is no tool 'wether'", "did you mean 'weather'?")
    ]
    plea = repair_messages("{}", faults, EXAMPLE_TOOLS)[-1].content
    assert "- weather(city: text)" in plea
    assert "send_mail" not in plea


def test_the_prompt_lists_the_functions_and_methods_of_the_language(monkeypatch):
    """All of both tables but `secret`, in their order; a function that the language gets is in the prompt, and makes it another one."""
    (system, _) = asked()
    listed = re.search(r"these functions: `([^`]+)`; on text `([^`]+)`; on dates `([^`]+)`", system.content)
    assert listed[1].split() == [name for name in FUNCTIONS if name != "secret"]
    for place, of in ((2, "text"), (3, "date")):
        assert listed[place].split() == [
            f".{name}()" for name, each in METHODS.items() if each.of == of and name not in NOT_SHOWN
        ]
    assert not re.search(r"<(functions|methods|date methods)>", "".join(text_of(name) for name in PROMPTS))
    before = prompt_version()
    monkeypatch.setitem(FUNCTIONS, "slug", replace(FUNCTIONS["str"], since=2))
    text_of.cache_clear()
    try:
        assert " secret" not in text_of("plan").split("these functions:")[1][:400]
        assert f" {list(FUNCTIONS)[-2]} slug`; on text" in text_of("plan")
        assert prompt_version() != before
    finally:
        monkeypatch.undo()
        text_of.cache_clear()
    assert prompt_version() == before


WAYS_TOOLS = Toolset(
    [
        fake("people", [], {"type": "array", "items": closed(name=TEXT, email=TEXT)}, effect="read"),
        fake("read_page", ["url"], effect="read", trust="untrusted"),
        Tool.from_callable(
            lambda **_: None,
            name="pay",
            parameters=closed(to=TEXT, amount={"type": "number"}),
            returns=TEXT,
            approval="always",
        ),
        fake("send_mail", ["to", "body"]),
    ]
)


def test_the_example_of_ways_around_an_unsafe_flow_holds():
    """It passes its check against the tools that it lists, which read as tools are listed: a rule admits what it selects. It says what it leaves out."""
    shown = text_of("untrusted")
    for tool in WAYS_TOOLS:
        assert signature_line(tool) in shown
    (text,) = re.findall(r"```json\n(.*?)```", shown, re.DOTALL)
    (selected,) = check(json.loads(text), WAYS_TOOLS).problems
    assert (selected.code, selected.path) == ("judged-flow", "$.steps[5].args.to")
    assert Plan.model_validate(json.loads(text)).left_out[0].startswith("send_mail: ")


def test_the_ways_are_shown_only_where_an_untrusted_result_may_meet_a_write():
    """Other prompts do not get longer; the ways come with the repair where the tools do not call for them."""

    def is_shown(*tools):
        return text_of("untrusted") in asked(tools)[1].content

    page, mail = WAYS_TOOLS.find("read_page"), WAYS_TOOLS.find("send_mail")
    assert is_shown(page, mail)
    assert not is_shown(page)
    assert not is_shown(mail)
    assert not is_shown(page, fake("note", ["text"], allow_untrusted=["text"]))
    assert is_shown(page, WAYS_TOOLS.find("pay"))
    faults = [problem("unsafe-flow", "$.steps[0]", "untrusted")]
    assert text_of("untrusted") in repair_messages("{}", faults, has_ways=False)[-1].content
    assert text_of("untrusted") not in repair_messages("{}", faults)[-1].content


def test_the_prompt_of_a_plan_stays_small():
    """What every planning sends has a budget, as the small models that it is for have: 1,700 tokens of format, 600 of ways where they are needed."""
    assert len(text_of("plan")) < 1_700 * 4
    assert len(text_of("untrusted")) < 600 * 4


FIVE = [
    Tool.from_callable(
        lambda **_: [],
        name="search",
        parameters=closed(query=TEXT)
        | {"properties": {"query": TEXT, "limit": {"type": "integer", "default": 10}}},
        returns={"type": "array", "items": closed(title=TEXT, url=TEXT, score={"type": "number"})},
        effect="read",
        description="Search the web for pages.",
    ),
    fake("fetch", ["url"], effect="read", trust="untrusted", description="Fetch a page as text."),
    fake("weather", ["city", "day"], closed(celsius={"type": "number"}, sky=TEXT), effect="read"),
    fake("find_person", ["name"], {"type": "array", "items": closed(name=TEXT, email=TEXT)}, effect="read"),
    fake(
        "send_mail",
        ["to", "subject", "body"],
        approval="always",
        description="Send a mail, and return its id.",
    ),
]
"""A toolset that has all parts of the prompt: reads, a write, a person who approves, an untrusted result."""


def test_a_draft_with_five_tools_costs_at_most_3000_tokens():
    """Prompt and schema together, also where the ways around an unsafe flow are shown; without these there are 500 tokens more of room."""
    task = "Find out what people say about tides and mail Ann a summary"
    whole = Planner("m").preview(task, FIVE)
    assert whole.form == "typed"
    assert text_of("untrusted") in whole.messages[1].content
    assert whole.prompt_tokens + whole.schema_tokens <= 3_000
    assert whole.schema_tokens <= whole.prompt_tokens / 3
    plain = Planner("m").preview(task, [tool for tool in FIVE if tool.trust == "trusted"])
    assert plain.prompt_tokens + plain.schema_tokens <= 2_500


TAUGHT = {
    "firmplan": 1,
    "inputs": {"today": {"type": "string", "format": "date", "x-given": "today"}},
    "plans": {
        "look": {
            "inputs": {"url": TEXT},
            "steps": [
                {
                    "id": "page",
                    "tool": "fetch",
                    "args": {"url": "${inputs.url}"},
                    "retries": 2,
                    "timeout": 10,
                },
                {
                    "id": "said",
                    "ask": {"prompt": "What of it?\n${page}", "model": "small", "guard": [{"quotes": True}]},
                },
            ],
            "output": "${said}",
        }
    },
    "steps": [
        {"id": "hits", "tool": "search", "args": {"query": "tides ${inputs.today}"}},
        {
            "id": "looks",
            "for_each": "${hits}",
            "plan": "look",
            "args": {"url": "${item.url}"},
            "on_error": "skip",
        },
        {
            "id": "more",
            "agent": {
                "goal": "Find more than ${looks}",
                "tools": ["search"],
                "returns": TEXT,
                "max_steps": 3,
            },
            "when": "${len(looks) < 3}",
        },
        {
            "id": "rest",
            "plan_for": "Look further",
            "given": {"looks": "${looks}"},
            "tools": ["search"],
            "returns": TEXT,
        },
        {"id": "who", "ask_person": "Who shall have it?", "returns": TEXT},
        {"id": "none", "fail": "nothing was found", "when": "${not hits}"},
        {
            "id": "tried",
            "plan": "look",
            "args": {"url": "${first(prev, 'x')}"},
            "repeat": {"until": "${len(tried) > 3}", "max": 3},
        },
        {"id": "best", "set": "${sorted(hits, key=lambda x: -x.score)[0].title}"},
    ],
    "output": {
        "best": "${best}",
        "who": "${who}",
        "more": "${first(more, tried)}",
        "looks": "${looks}",
        "rest": "${rest}",
    },
}


def test_everything_that_is_taught_is_in_the_schema_and_passes_the_check():
    """A plan of all of it; and no key of it is one that the prompt does not tell of."""
    report = check(TAUGHT, FIVE)
    assert report.ok, report.errors
    assert jsonschema_rs.validator_for(plan_answer(FIVE)[0].wire_schema).is_valid(TAUGHT)
    words = system()
    keys = {key for step in (*TAUGHT["steps"], *TAUGHT["plans"]["look"]["steps"]) for key in step} - {"id"}
    keys |= {"inputs", "plans", "output", "x-given", "model", "guard", "max_steps"}
    assert [key for key in sorted(keys) if f'"{key}"' not in words and f"`{key}`" not in words] == []
    for fact in (
        "`x?` may be absent",
        "Writes are made in order",
        "of each item",
        "Put whole values into the prompt",
    ):
        assert fact in words
    assert "a step that refers to a skipped one is skipped, too" in words
    assert "`.field` after anything" in words


def test_an_argument_that_is_harmless_is_marked():
    """A planner sees which narrow arguments may get an untrusted value."""
    book = Tool.from_callable(
        lambda **_: None,
        name="book",
        parameters=closed(day={"type": "string", "format": "date"}, room=TEXT),
        returns=TEXT,
        harmless=["day"],
    )
    assert signature_line(book).splitlines()[0].endswith("[write, harmless: day]")
    assert "`harmless`" in text_of("untrusted")
