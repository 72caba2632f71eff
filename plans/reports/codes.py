"""The codes of problems: the severity of each, its meaning, and a plan that has the problem.

The catalogue in the docs is generated from this table, and a test checks each example, so neither can become wrong. Examples use the
tools of `EXAMPLE_TOOLS`, written there for people; the tests have them as signatures.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from ..immutable import frozen

if TYPE_CHECKING:
    from .errors import LocalProblem

EXAMPLE_TOOLS = """\
weather(city: string) -> {celsius: number, text: string}    read
cities(country: string) -> list of string                   read
fetch(url: string) -> string                                read, untrusted
customer(name: string) -> string                            read, private for example.org
post(url: string, body: string)                             write, egress url
send_mail(to: string, body: string) -> string               write
search(query: string) -> anything                           read
news(topic: string) -> string                               read, reaches the network, trust not stated"""


@frozen
class Code:
    """One kind of problem.

    Attributes:
        meaning: One sentence.
        example: The parts of a plan, as YAML, that have the problem (`firmplan: 1` is understood).
        path: The place of the problem in the example.
    """

    severity: Literal["error", "warning"]
    meaning: str
    example: str
    path: str


def _error(meaning: str, example: str, path: str) -> Code:
    return Code("error", meaning, example, path)


def _warning(meaning: str, example: str, path: str) -> Code:
    return Code("warning", meaning, example, path)


def is_error(found: LocalProblem) -> bool:
    """Whether a problem stops the plan; a warning does not."""
    return CODES[found.code].severity == "error"


CODES: Mapping[str, Code] = MappingProxyType(
    {
        "bad-shape": _error(
            "The plan does not have the shape of the format: a key is unknown, missing or of the wrong kind, the text is no JSON or YAML, or the version is not 1.",
            "steps:\n  - {id: w, tool: weather, args: {city: Rome}, wehn: true}\noutput: ${w.text}",
            "$.steps[0].wehn",
        ),
        "duplicate-id": _error(
            "Two steps have the same id.",
            "steps:\n  - {id: a, set: 1}\n  - {id: a, set: 2}\noutput: ${a}",
            "$.steps[1].id",
        ),
        "bad-id": _error(
            "A step id or an input name does not match `[a-z][a-z0-9_]{0,63}`, or is a Python keyword, a function or a name with a meaning of its own.",
            "steps:\n  - {id: sum, set: 1}",
            "$.steps[0].id",
        ),
        "unknown-tool": _error(
            "No tool has this name.",
            "steps:\n  - {id: w, tool: wether, args: {city: Rome}}",
            "$.steps[0].tool",
        ),
        "unknown-policy": _error(
            "An `endorse` step names a policy that the engine does not have. `check` reports it only if it is told the names of the policies.",
            """\
steps:
  - id: page
    tool: fetch
    args: {url: "https://example.org"}
  - id: who
    endorse: "${page}"
    returns: {type: string}
    by: suppliers
output: ${who}""",
            "$.steps[1].by",
        ),
        "unknown-model": _error(
            "A step asks a model that the engine does not know, or none is configured. `check` reports it only if it is told the models.",
            "steps:\n  - {id: n, ask: {prompt: Say hi, model: smal}}\noutput: ${n}",
            "$.steps[0].ask.model",
        ),
        "unknown-secret": _error(
            "The engine has no secret of this name, or has it for other tools or arguments.",
            "steps:\n  - {id: f, tool: fetch, args: {url: '${secret(\"PAGE_URL\")}'}}\noutput: ${f}",
            "$.steps[0].args.url",
        ),
        "unknown-type": _error(
            "A `$ref` names a type that the plan does not define.",
            "steps:\n  - {id: n, ask: {prompt: Say hi, returns: {$ref: '#/types/Note'}}}\noutput: ${n}",
            "$.steps[0].ask.returns",
        ),
        "unknown-plan": _error(
            "No inner plan and no saved plan has this name.",
            "steps:\n  - {id: p, plan: report}",
            "$.steps[0].plan",
        ),
        "missing-arg": _error(
            "A required argument is not given.",
            "steps:\n  - {id: w, tool: weather}\noutput: ${w.text}",
            "$.steps[0].args.city",
        ),
        "unknown-arg": _error(
            "The tool, or the inner plan, has no argument of this name.",
            "steps:\n  - {id: w, tool: weather, args: {city: Rome, unit: C}}\noutput: ${w.text}",
            "$.steps[0].args.unit",
        ),
        "bad-literal": _error(
            "A value written in the plan does not fit the schema of its place.",
            "steps:\n  - {id: w, tool: weather, args: {city: 12}}\noutput: ${w.text}",
            "$.steps[0].args.city",
        ),
        "unknown-ref": _error(
            "The head of a reference names no step, input or name in scope.",
            "steps:\n  - {id: w, tool: weather, args: {city: '${town}'}}\noutput: ${w.text}",
            "$.steps[0].args.city",
        ),
        "unknown-field": _error(
            "A later part of a reference is not a field, or not an index, of what stands before it.",
            "steps:\n  - {id: w, tool: weather, args: {city: Rome}}\noutput: ${w.celcius}",
            "$.output",
        ),
        "type-mismatch": _error(
            "A computed value can never fit its place.",
            "steps:\n  - {id: a, tool: weather, args: {city: Rome}}\n  - {id: b, tool: weather, args: {city: '${a.celsius}'}}\noutput: ${b.text}",
            "$.steps[1].args.city",
        ),
        "bad-expr": _error(
            "An expression is not in the language: wrong syntax, a forbidden construct, or operands of wrong types.",
            "steps:\n  - {id: a, set: '${1 +}'}\noutput: ${a}",
            "$.steps[0].set",
        ),
        "cycle": _error(
            "Steps wait for one another in a cycle.",
            "steps:\n  - {id: a, set: '${b}'}\n  - {id: b, set: '${a}'}\noutput: ${a}",
            "$.steps[0]",
        ),
        "bad-input": _error(
            "An input's default, or the value given for an input, does not fit the input's schema.",
            "inputs: {n: {type: integer, default: ten}}\nsteps:\n  - {id: a, set: '${inputs.n}'}\noutput: ${a}",
            "$.inputs.n.default",
        ),
        "recursive-plan": _error(
            "A plan runs itself, directly or through others.",
            "plans:\n  p: {steps: [{id: again, plan: p}], output: '${again}'}\nsteps:\n  - {id: a, plan: p}\noutput: ${a}",
            "$.plans.p.steps[0].plan",
        ),
        "limit-exceeded": _error(
            "The plan, or a constant part of an expression, is larger than a limit.",
            "steps:\n  - {id: a, set: '${10 ** 9 * \"a\"}'}\noutput: ${a}",
            "$.steps[0].set",
        ),
        "unsafe-flow": _error(
            "Data from an untrusted tool, or an untrusted input, reaches an argument of a write that neither allows it nor asks for approval.",
            "steps:\n  - {id: page, tool: fetch, args: {url: 'https://example.org'}}\n  - {id: mail, tool: send_mail, args: {to: me@example.org, body: '${page}'}}",
            "$.steps[1].args.body",
        ),
        "private-flow": _error(
            "Private data reaches a tool, or a model, that is none of its readers; or untrusted data chooses who gets a secret.",
            "steps:\n  - {id: who, tool: customer, args: {name: Ann}}\n  - {id: short, ask: {prompt: 'Who is this? ${who}'}}\noutput: ${short}",
            "$.steps[1].ask.prompt",
        ),
        "unsafe-retry": _error(
            "A step's retries would repeat a write that is neither idempotent nor able to tell what became of it.",
            "steps:\n  - {id: mail, tool: send_mail, args: {to: me@example.org, body: Hi}, retries: 2}",
            "$.steps[0].retries",
        ),
        "not-a-list": _error(
            "`for_each` needs a list.",
            "steps:\n  - {id: w, for_each: Rome, tool: weather, args: {city: '${item}'}}\noutput: ${w}",
            "$.steps[0].for_each",
        ),
        "not-a-bool": _error(
            "`when` and `until` need a boolean.",
            "steps:\n  - {id: w, when: '${1}', tool: weather, args: {city: Rome}}\noutput: ${w.text}",
            "$.steps[0].when",
        ),
        "maybe-missing": _warning(
            "A value may be null or absent where its place wants one.",
            "inputs: {go: {type: boolean}}\nsteps:\n  - {id: w, when: '${inputs.go}', tool: weather, args: {city: Rome}}\noutput: ${w.text}",
            "$.output",
        ),
        "unused-step": _warning(
            "Nothing refers to the step, and it changes nothing.",
            "steps:\n  - {id: w, tool: weather, args: {city: Rome}}\n  - {id: a, set: 1}\noutput: ${w.text}",
            "$.steps[1]",
        ),
        "unused-input": _warning(
            "Nothing refers to the input.",
            "inputs: {city: {type: string}}\nsteps:\n  - {id: a, set: 1}\noutput: ${a}",
            "$.inputs.city",
        ),
        "unchecked-type": _warning(
            "Only the run can tell whether a value fits, and checks it then.",
            "steps:\n  - {id: s, tool: search, args: {query: Rome}}\n  - {id: w, tool: weather, args: {city: '${s}'}}\noutput: ${w.text}",
            "$.steps[1].args.city",
        ),
        "untrusted-condition": _warning(
            "Data from an untrusted tool, or an untrusted input, decides whether, or how often, a write happens.",
            "steps:\n  - {id: page, tool: fetch, args: {url: 'https://example.org'}}\n  - {id: mail, when: '${\"yes\" in page}', tool: send_mail, args: {to: me@example.org, body: Hi}}",
            "$.steps[1].when",
        ),
        "judged-flow": _warning(
            "Untrusted data reaches an argument of a write, where a rule admits it or decides about it when the call is made.",
            "steps:\n  - {id: page, tool: fetch, args: {url: 'https://example.org'}}\n  - {id: known, tool: cities, args: {country: Italy}}\n  - {id: mail, tool: send_mail, args: {to: '${[x for x in known if x in page][0]}', body: Hi}}",
            "$.steps[2].args.to",
        ),
        "private-condition": _warning(
            "Private data decides whether, or how often, data is sent to somebody who is none of its readers.",
            "steps:\n  - {id: who, tool: customer, args: {name: Ann}}\n  - {id: note, when: '${\"Rome\" in who}', tool: post, args: {url: 'https://example.com', body: Hi}}",
            "$.steps[1].when",
        ),
        "unchecked-reader": _warning(
            "Only the run can tell whether the receiver of private data is one of its readers, and checks it then.",
            "inputs: {url: {type: string}}\nsteps:\n  - {id: who, tool: customer, args: {name: Ann}}\n  - {id: note, tool: post, args: {url: '${inputs.url}', body: '${who}'}}",
            "$.steps[1].args.body",
        ),
        "unstated-trust": _warning(
            "A tool gets its results from a network, files or processes, and does not state whether they may be trusted.",
            "steps:\n  - {id: n, tool: news, args: {topic: weather}}\noutput: ${n}",
            "$.steps[0].tool",
        ),
        "suspicious-text": _warning(
            "Plain text looks like a reference that should be an expression.",
            "steps:\n  - {id: w, tool: weather, args: {city: Rome}}\n  - {id: a, set: 'Now: {{w.text}}'}\noutput: ${a + w.text}",
            "$.steps[1].set",
        ),
    }
)
