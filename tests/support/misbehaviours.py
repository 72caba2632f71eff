"""Ways in which models and endpoints misbehave, each with what comes of it: the table of `docs/MODEL_FAULTS.md`.

Every script is served over real HTTP. A script that is not the whole story goes on with `GOOD`, so that a planner that
bears with it gets a plan.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from firmplan.testing import (
    Body,
    Cut,
    Drip,
    Empty,
    HttpError,
    Raw,
    Refusal,
    Slow,
    Text,
    ToolCall,
    Truncated,
)

SAMPLED = 24
"""How many misbehaviours the tests try in the ways of planning that differ only before the draft; `make sweep` tries all."""
AT_ONCE = {"retry-after-ms": "1"}
SHORT_S = 1.0

GOOD = {
    "firmplan": 1,
    "task": "Compare two cities",
    "inputs": {"a": {"type": "string", "default": "Rome"}},
    "steps": [
        {"id": "wa", "tool": "weather", "args": {"city": "${inputs.a}"}},
        {"id": "wb", "tool": "weather", "args": {"city": "Oslo"}},
    ],
    "output": "${max(wa, wb)}",
}
SAID = json.dumps(GOOD)
STEPS = GOOD["steps"]


@dataclass(frozen=True)
class Misbehaviour:
    """One way of misbehaving.

    Attributes:
        name: What the endpoint or the model does.
        script: What is answered, in order; `GOOD` follows where `then_good`.
        requests: Requests that the planning sends.
        words: `()`: a plan comes of it. Else what `PlanningFailed` says.
        told: What the model is told when it is asked again.
        timeout_s: Seconds a request; short where it is the endpoint's silence that ends the planning, else never reached, however busy the machine is.
    """

    name: str
    script: Sequence[object]
    requests: int
    words: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    timeout_s: float = 60
    then_good: bool = True
    options: dict[str, object] = field(default_factory=dict)

    @property
    def outcome(self) -> str:
        """The outcome as the table says it."""
        if self.words:
            asked = "one request" if self.requests == 1 else f"{self.requests} requests"
            return f"fails after {asked}: " + ", ".join(f"`{word}`" for word in self.words)
        if self.requests == 1:
            return "a plan"
        told = f", told {', '.join(f'`{word}`' for word in self.told)}" if self.told else ""
        return f"a plan at request {self.requests}{told}"


def step(**keys):
    """A draft whose last step is another one."""
    return {**GOOD, "steps": [*STEPS, {"id": "more", **keys}]}


def message(**fields):
    """A chat completion with a message of its own making."""
    return Body(json.dumps({"id": "x", "object": "chat.completion", "choices": [fields]}))


def said(content, **fields):
    return message(
        index=0,
        message={"role": "assistant", "content": content, **fields},
        finish_reason="stop",
    )


def called(*calls):
    tool_calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(calls)
    ]
    return said(None, tool_calls=tool_calls)


def http(head, body=b""):
    return Raw(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)


def forever(reply):
    return [reply] * 20


def again(name, reply, *told, **options):
    """A misbehaviour that is put right when the model is told."""
    return Misbehaviour(name, [reply], 2, told=told, **options)


def read(name, reply):
    """A misbehaviour that is read all the same."""
    return Misbehaviour(name, [reply], 1)


def ends(name, reply, requests, *words, **options):
    """A misbehaviour that goes on for ever, and that planning does not bear with for long."""
    return Misbehaviour(name, forever(reply), requests, words, then_good=False, **options)


_BOMB = gzip.compress(b" " * 20_000_000)
_ZIPPED = gzip.compress(b"x" * 1000)

NOISE = (
    read("prose around the plan", Text(f"Sure! Here it is: {SAID} I hope that helps.")),
    read("a markdown fence in another mode", Text(f"```json\n{SAID}\n```")),
    read("thoughts in tags before the plan", Text(f"<think>Maybe {{wa}}? No.</think>\n{SAID}")),
    read("an earlier try before the plan", Text(f'First: {{"steps": []}}. Better:\n```json\n{SAID}\n```')),
    read("the plan as a string of JSON", Text(json.dumps(SAID))),
    read("the plan in a wrapper", {"plan": GOOD}),
    read("a wrapper that holds a string", {"reasoning": "..", "plan": SAID}),
    read("steps as a string of JSON", {**GOOD, "steps": json.dumps(STEPS)}),
    read(
        "args as a string of JSON",
        {**GOOD, "steps": [{**each, "args": json.dumps(each["args"])} for each in STEPS]},
    ),
    read(
        "nulls for all keys not used",
        {
            **GOOD,
            "types": None,
            "steps": [{**each, "ask": None, "set": None, "when": None} for each in STEPS],
        },
    ),
    read("no version", {key: part for key, part in GOOD.items() if key != "firmplan"}),
    read("a byte order mark", Text("\ufeff" + SAID)),
    read("a tool call under another name", ToolCall("make_plan", GOOD)),
    read("several tool calls, the plan first", called(("plan", SAID), ("plan", "{}"))),
    read("arguments as an object, not as text", called(("plan", GOOD))),
    read("the function call of older APIs", said(None, function_call={"name": "plan", "arguments": SAID})),
    read("content in parts", said([{"type": "text", "text": SAID}])),
    read("a plan broken off, and begun anew", Text(SAID[:-30] + SAID)),
    read("no usage, no ids", message(message={"content": SAID})),
    read(
        "usage that is nonsense",
        Body(
            json.dumps(
                {
                    "choices": [{"message": {"content": SAID}}],
                    "usage": {"prompt_tokens": "many", "completion_tokens": -7},
                }
            )
        ),
    ),
    read(
        "unknown fields all over",
        Body(
            json.dumps(
                {
                    "object": 7,
                    "extra": {},
                    "choices": [
                        {
                            "index": "x",
                            "message": {"content": SAID, "mood": "good"},
                            "finish_reason": "because",
                        }
                    ],
                }
            )
        ),
    ),
)

MALFORMED = (
    again("nothing but prose", Text("I would check the weather first."), "no JSON"),
    again("an empty message", Empty(), "empty"),
    again("white space only", Text(" \n" * 5000), "empty"),
    again("a fence that is never closed, then line feeds", Text("```json\n" + "\n" * 300_000), "no JSON"),
    again("single quotes", Text(SAID.replace('"', "'")), "no JSON"),
    again("a trailing comma", Text(SAID[:-1] + ",}"), "no JSON"),
    again("comments in JSON", Text("{ // the plan\n" + SAID[1:]), "does not fit"),
    again("NaN for a number", Text(SAID.replace('"Oslo"', "NaN")), "no JSON"),
    again("a number past 64 bits", Text(SAID.replace('"Oslo"', "9" * 40)), "no JSON"),
    again("brackets without end", Text("[" * 200_000), "no JSON"),
    again("openings of JSON without end", Text('{"a": ' * 50_000), "no JSON"),
    again("a lone surrogate", Text(SAID.replace("Oslo", "\\ud800")), "no JSON"),
    again("JSON cut off, and said to be whole", Text(SAID[:100]), "no JSON"),
    again("a tool call without arguments", called(("plan", "")), "empty"),
    again("a list of steps", Text(json.dumps(STEPS)), "does not fit"),
    again("a number", Text("42"), "does not fit"),
    again("null", Text("null"), "does not fit"),
    again("the answer cut off at the limit of length", Truncated(GOOD), "cut off"),
    again(
        "no choices", Body('{"id": "x", "object": "chat.completion", "choices": []}'), "no chat completion"
    ),
    again("choices that are null", Body('{"choices": null}'), "no chat completion"),
    again("a choice without a message", message(index=0), "no chat completion"),
    again("an error in a body of status 200", Body('{"error": {"message": "overloaded"}}'), "overloaded"),
    again("the schema in place of a plan", {"type": "object", "properties": {"steps": {}}}, "bad-shape"),
    again("an empty object", {}, "bad-shape"),
    again("two million characters and more", Text("x" * 2_100_000), "characters"),
)

WRONG_PLANS = (
    again(
        "a tool that is not there",
        step(tool="wether", args={"city": "Bonn"}),
        "unknown-tool",
        "did you mean 'weather'",
    ),
    again(
        "an argument that is not there",
        step(tool="weather", args={"town": "Bonn"}),
        "unknown-arg",
        "missing-arg",
    ),
    again("an argument of another type", step(tool="weather", args={"city": 7}), "bad-literal"),
    again("a reference to nothing", step(set="${wc}"), "unknown-ref"),
    again("a reference as other tools write it", step(set="${steps.wa.output}"), "unknown-ref"),
    again("a cycle", {**GOOD, "steps": [{"id": "a", "set": "${b}"}, {"id": "b", "set": "${a}"}]}, "cycle"),
    again("the same id twice", {**GOOD, "steps": [*STEPS, STEPS[0]]}, "duplicate-id"),
    again("an id that is no id", step(id="Step One", set=1), "bad-id"),
    again("steps by name, not in a list", {**GOOD, "steps": {"wa": STEPS[0]}}, "bad-shape"),
    again("keys of another format", step(set=1, depends_on=["wa"]), "bad-shape"),
    again("two actions in one step", step(set=1, tool="weather"), "bad-shape"),
    again("Python that is not allowed", step(set="${__import__('os').system('true')}"), "bad-expr"),
    again("an f-string", step(set="${f'{wa}'}"), "bad-expr"),
    again("an expression without end", step(set="${" + "(" * 20_000), "limit-exceeded"),
    again("an expression as deep as the sea", step(set="${" + "-" * 5_000 + "1}"), "limit-exceeded"),
    again("a power that fills the memory", step(set="${9 ** 9 ** 9 ** 9}"), "bad-expr"),
    again("a text that fills the memory", step(set="${'x' * 99999999999}"), "limit-exceeded"),
    again("a write of what nobody vouches for", step(tool="post", args={"text": "${page}"}), "unknown-ref"),
    again("another version of the format", {**GOOD, "firmplan": 2}, "bad-shape"),
    again(
        "steps past counting",
        {**GOOD, "steps": [{"id": f"s{n}", "set": "${nobody}"} for n in range(5000)]},
        "more",
    ),
    again("a schema that is none", {**GOOD, "types": {"T": {"type": "texxt"}}}, "bad-shape"),
    again(
        "a type that refers to itself",
        {
            **GOOD,
            "types": {"T": {"$ref": "#/types/T"}},
            "steps": [*STEPS, {"id": "q", "ask": {"prompt": "x", "returns": {"$ref": "#/types/T"}}}],
        },
        "bad-shape",
    ),
    again("deep nesting in a value", step(set=json.loads("[" * 400 + "]" * 400)), "nested deeper"),
    ends("the same fault, for ever", step(tool="wether", args={}), 4, "4 drafts", "unknown-tool"),
    ends("prose, for ever", Text("I would rather talk."), 4, "no JSON"),
    ends("cut off, for ever", Truncated(GOOD), 4, "cut off", "split the task"),
    ends(
        "the same fault, with fifty repairs allowed",
        step(tool="wether", args={}),
        4,
        "4 drafts",
        "unknown-tool",
        options={"max_repairs": 50},
    ),
    Misbehaviour(
        "another fault each time, with fifty repairs allowed",
        [step(tool=f"wether{number}", args={}) for number in range(20)],
        12,
        ("asked as often as is allowed",),
        then_good=False,
        options={"max_repairs": 50},
    ),
)

TRANSPORT = (
    ends("401", HttpError(401, "no such key"), 1, "401", "set OPENAI_API_KEY"),
    ends("403", HttpError(403), 1, "403"),
    ends("404", HttpError(404), 1, "no model 'm'"),
    ends("a refusal", Refusal("Not this."), 1, "declined", "Not this."),
    ends(
        "a content filter",
        message(index=0, message={"role": "assistant", "content": ""}, finish_reason="content_filter"),
        1,
        "declined",
    ),
    ends("400 to whatever is asked", HttpError(400, "context length exceeded"), 4, "context length exceeded"),
    Misbehaviour("400 to tool calls only", [HttpError(400, "tools are not supported")], 2),
    Misbehaviour(
        "400 to tool calls and schemas", [HttpError(400, "tools?"), HttpError(400, "response_format?")], 3
    ),
    ends("429, for ever", HttpError(429, "", AT_ONCE), 3, "429", "another key"),
    ends("429 with an hour to wait", HttpError(429, "", {"retry-after": "3600"}), 1, "429"),
    ends(
        "429 with a wait that is nonsense",
        HttpError(429, "", {"retry-after": "soon", "retry-after-ms": "1"}),
        3,
        "429",
    ),
    ends("a quota that is used up", HttpError(429, "insufficient_quota"), 1, "insufficient_quota"),
    Misbehaviour("429 once", [HttpError(429, "", AT_ONCE)], 2),
    Misbehaviour("503 once", [HttpError(503, "", AT_ONCE)], 2),
    ends("500, for ever", HttpError(500, "", AT_ONCE), 3, "500", "try again later"),
    Misbehaviour(
        "500 and drafts with other faults by turns",
        [
            reply
            for number in range(9)
            for reply in (
                HttpError(500, "", AT_ONCE),
                HttpError(500, "", AT_ONCE),
                step(tool=f"wether{number}"),
            )
        ],
        12,
        ("asked as often as is allowed",),
        then_good=False,
        options={"max_repairs": 50},
    ),
    ends(
        "a redirect",
        http(
            "HTTP/1.1 307 Temporary Redirect\nlocation: http://127.0.0.1:9/v1/chat/completions\ncontent-length: 0"
        ),
        1,
        "redirects to http://127.0.0.1:9",
    ),
    ends("silence", Slow(GOOD, 60), 3, "within 1 s", "timeout", timeout_s=SHORT_S),
    ends("a body that never ends, drop by drop", Drip(" ", 0.02), 3, "within 1 s", timeout_s=SHORT_S),
    ends("a body that never ends, as a flood", Drip(" " * 1_000_000, 0), 1, "more than 16777216 bytes"),
    ends(
        "a body that unpacks a thousandfold",
        http(
            f"HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-encoding: gzip\ncontent-length: {len(_BOMB)}",
            _BOMB,
        ),
        3,
        "no answer of a model",
    ),
    Misbehaviour("a connection broken in mid-answer", [Cut(GOOD)], 2),
    ends("connections broken, for ever", Cut(GOOD), 3, "no connection"),
    Misbehaviour("a connection closed without an answer", [Raw(b"")], 2),
    Misbehaviour("what is no HTTP", [Raw(b"SSH-2.0-OpenSSH_9.6\r\n")], 2),
    Misbehaviour("a head without end", [Raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000)], 2),
    Misbehaviour(
        "fewer bytes than promised",
        [http("HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: 9999", SAID.encode())],
        2,
    ),
    Misbehaviour(
        "chunks that are none", [http("HTTP/1.1 200 OK\ntransfer-encoding: chunked", b"zz\r\nno\r\n")], 2
    ),
    Misbehaviour(
        "compression that is none",
        [
            http(
                f"HTTP/1.1 200 OK\ncontent-encoding: gzip\ncontent-type: application/json\ncontent-length: {len(SAID)}",
                SAID.encode(),
            )
        ],
        2,
    ),
    ends(
        "a login page of a proxy",
        Body("<html><title>Please log in</title></html>", "text/html"),
        1,
        "web page titled 'Please log in'",
    ),
    Misbehaviour("an empty body", [Body("")], 2),
    Misbehaviour(
        "bytes that are no text",
        [http("HTTP/1.1 200 OK\ncontent-type: application/json\ncontent-length: 4", b"\xff\xfe\x00\x80")],
        2,
    ),
    again(
        "a stream that nobody asked for",
        Body('data: {"choices": []}\n\ndata: [DONE]\n\n', "text/event-stream"),
        "no chat completion",
    ),
    again("204 without a body", http("HTTP/1.1 204 No Content"), "no chat completion"),
)

EVERY = (*NOISE, *MALFORMED, *WRONG_PLANS, *TRANSPORT)


def table():
    """Return the table of the page."""
    rooms = (
        ("What is read all the same", NOISE),
        ("Answers that are no plan", MALFORMED),
        ("Plans that do not pass", WRONG_PLANS),
        ("Endpoints that fail", TRANSPORT),
    )
    lines: list[str] = []
    for title, cases in rooms:
        lines += ["", f"## {title}", "", "| what happens | what comes of it |", "| --- | --- |"]
        lines += [f"| {case.name} | {case.outcome} |" for case in cases]
    return "\n".join(lines) + "\n"
