"""Sets in JSON lines, as people have them for function calling: one task a line, with its tools as OpenAI function schemas and the expected calls.

    {"id": "rome", "task": "What is the weather in Rome?", "tools": [{"type": "function", "function": {"name": "weather", "parameters": {..}}}],
     "calls": [{"name": "weather", "arguments": {"city": "Rome"}}], "results": {"weather": {"celsius": 21}}}

| part | accepted forms |
| --- | --- |
| the task | `task`, `prompt` or `question` with a text or with chat messages; `messages` of a fine-tuning set, whose assistant messages give the calls |
| the tools | `tools`, `functions` or `function`: OpenAI function schemas with or without `{"type": "function"}`; BFCL's `dict`, `float`, `tuple` and `any` |
| the calls | `calls`: `{"name": .., "arguments": ..}`, arguments as an object or as JSON text, with or without `{"function": ..}`; `ground_truth` in BFCL's form |

`results` says what a tool gives: tool -> result, or a list of `{"name", "arguments", "result"}`; without it a tool gives `null`. `inputs` and `expect` are those of other sets. BFCL
keeps the calls in a file of the same name in a folder `possible_answer` beside the tasks; it is read too. The tools are fakes: they record their calls and do nothing,
so that plans that write can be run. All faulty lines are reported together.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from ...errors import ConfigError, FirmplanError
from ...plans.reports.nearest import did_you_mean, listing
from ...plans.values import Json
from ...tools.tool import Tool
from ...tools.toolset import Toolset
from ..traces.messages import events_of, placed_objects
from ..traces.trace import Called, Event, Said, trace_of
from .expected_calls import ExpectedCall, MadeCall

FAULTS_SHOWN: Final = 10
ANSWERS_FOLDER: Final = "possible_answer"
"""Where BFCL keeps the expected calls of a file of tasks."""

_TASK_KEYS: Final = ("task", "prompt", "question", "messages")
_TOOL_KEYS: Final = ("tools", "functions", "function")
_CALL_KEYS: Final = ("calls", "expected_calls", "ground_truth")
_OTHER_KEYS: Final = ("id", "inputs", "expect", "results")
_IGNORED_KEYS: Final = ("parallel_tool_calls", "tool_choice", "execution_result_type")
_KEYS: Final = (*_TASK_KEYS, *_TOOL_KEYS, *_CALL_KEYS, *_OTHER_KEYS)
_TYPES: Final = {"dict": "object", "float": "number", "tuple": "array"}
"""Names of types that BFCL takes from Python, and JSON Schema's."""

_FUNCTION_KEYS: Final = ("name", "description", "parameters", "returns", "effect", "strict", "response")
_Fields: TypeAlias = "Mapping[str, Json]"


@dataclass(slots=True)
class FakeTools:
    """Tools that record their calls and do nothing else.

    Attributes:
        calls: The calls that were made, in order; `None`: these fakes do not record them.
    """

    tools: Toolset
    calls: list[MadeCall] | None = None


@dataclass(frozen=True, slots=True)
class FakeResult:
    """What a fake gives for a call with these arguments; `args` is `None`: with any."""

    tool: str
    result: Json
    args: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class LineTask:
    """One line of a set.

    Attributes:
        calls: The calls that should be made; `None`: the line does not say.
        expect: The expectations, as other sets write them.
    """

    id: str
    task: str
    functions: tuple[Mapping[str, Json], ...]
    calls: tuple[ExpectedCall, ...] | None
    results: tuple[FakeResult, ...] = ()
    inputs: Mapping[str, Json] = field(default_factory=dict[str, Json])
    expect: Mapping[str, Json] = field(default_factory=dict[str, Json])

    def fakes(self) -> FakeTools:
        """Return the tools, made anew. Raises: ConfigError: a schema is not one."""
        calls: list[MadeCall] = []
        tools = [_tool_of(function, self.results, calls) for function in self.functions]
        return FakeTools(Toolset(tools), calls)


def is_json_lines(path: Path) -> bool:
    """Whether a file holds JSON lines: by its name, or, since BFCL calls them `.json`, by its first line, if others follow."""
    if path.suffix == ".jsonl":
        return True
    if path.suffix != ".json" or not path.is_file():
        return False
    with path.open(encoding="utf-8", errors="replace") as file:
        first, second = file.readline(), file.readline()
    try:
        return bool(second.strip()) and isinstance(json.loads(first), dict)
    except ValueError:
        return False


def read_json_lines(path: Path) -> list[LineTask]:
    """Return the tasks of a file, in its order. Raises: ConfigError: lines are faulty; the message has the number of each and what is wrong."""
    answers = {
        str(entry["id"]): entry["ground_truth"]
        for entry in _answers(path.parent / ANSWERS_FOLDER / path.name)
        if "id" in entry and "ground_truth" in entry
    }
    found: dict[str, LineTask] = {}
    faults: list[str] = []
    for number, line in _lines(path):
        try:
            entry = _object(line)
            given = answers.get(str(entry.get("id")))
            merged = entry if given is None or "ground_truth" in entry else {**entry, "ground_truth": given}
            task = _task(merged, number)
            _ = task.fakes()  # a schema that is none is found now, with its line
        except (_FaultyLine, FirmplanError) as fault:
            faults.append(f"line {number}: {fault}")
            continue
        if task.id in found:
            faults.append(f"line {number}: expected an id of its own, found '{task.id}' again")
        found.setdefault(task.id, task)
    if faults:
        more = [f"and {len(faults) - FAULTS_SHOWN} more"] if len(faults) > FAULTS_SHOWN else []
        raise ConfigError("\n".join([f"{path}: {each}" for each in faults[:FAULTS_SHOWN]] + more))
    if not found:
        raise ConfigError(f"{path}: expected one task a line, found none")
    return list(found.values())


class _FaultyLine(Exception):  # noqa: N818  # never leaves this module
    """What is wrong with a line."""


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not empty, with their numbers. Raises: ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"expected a set of tasks, found {path}: {error}") from error
    # Not `splitlines`, which also splits at characters that JSON texts may hold as they are.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def _answers(path: Path) -> list[_Fields]:
    """Return the entries of BFCL's file of answers; none if there is no such file. Raises: ConfigError."""
    if not path.is_file():
        return []
    found: list[_Fields] = []
    for number, line in _lines(path):
        try:
            found.append(_object(line))
        except _FaultyLine as fault:
            raise ConfigError(f"{path}: line {number}: {fault}") from fault
    return found


def _object(line: str) -> dict[str, Json]:
    try:
        value: Json = json.loads(line)
    except ValueError as error:
        raise _FaultyLine(f"expected one JSON object, found no JSON: {error}") from error
    if not isinstance(value, dict):
        raise _FaultyLine(f"expected one JSON object, found {_short(value)}")
    return value


def _task(entry: _Fields, number: int) -> LineTask:
    for key in entry:
        if key not in _KEYS and key not in _IGNORED_KEYS:
            hint = did_you_mean(key, _KEYS, f"known are {listing(_KEYS, len(_KEYS))}")
            raise _FaultyLine(f"found the unknown key '{key}'; {hint}")
    messages, calls, results = entry.get("messages"), _calls(entry), _results(entry.get("results"))
    if messages is None:
        words = _words(entry)
    else:
        words, said, told = _transcript(messages)
        calls, results = said if calls is None else calls, [*results, *told]
    inputs, expect = entry.get("inputs", {}), entry.get("expect", {})
    if not isinstance(inputs, dict) or not isinstance(expect, dict):
        raise _FaultyLine("'inputs' and 'expect': expected objects")
    return LineTask(
        str(entry.get("id") or f"line-{number}"),
        words,
        _functions(entry),
        calls,
        tuple(results),
        inputs,
        expect,
    )


def _words(entry: _Fields) -> str:
    key = _one_of(entry, _TASK_KEYS, "the task")
    given = entry[key]
    # BFCL: a list of turns, each a list of messages.
    if isinstance(given, list) and all(isinstance(turn, list) for turn in given):
        if len(given) != 1:
            raise _FaultyLine(
                f"'{key}': expected one turn, found {len(given)}: a set has one task a line, and no dialogue"
            )
        given = given[0]
    if isinstance(given, list):
        said = [
            each.get("content") for each in given if isinstance(each, dict) and each.get("role") == "user"
        ]
        given = "\n".join(each for each in said if isinstance(each, str))
    if not isinstance(given, str) or not given.strip():
        raise _FaultyLine(f"'{key}': expected a text, or messages of a user, found {_short(entry[key])}")
    return given


def _one_of(entry: _Fields, keys: Sequence[str], what: str) -> str:
    """Return the one key of these that an entry has."""
    found = [key for key in keys if key in entry]
    if len(found) != 1:
        raise _FaultyLine(
            f"expected {what} under one of {listing(keys)}, found {listing(found) if found else 'none of them'}"
        )
    return found[0]


# --- tools


def _functions(entry: _Fields) -> tuple[Mapping[str, Json], ...]:
    key = _one_of(entry, _TOOL_KEYS, "the tools")
    given = entry[key]
    listed = given if isinstance(given, list) else [given]
    return tuple(_function(f"'{key}'[{index}]", each) for index, each in enumerate(listed))


def _function(where: str, given: Json) -> Mapping[str, Json]:
    fields = given if isinstance(given, dict) else {}
    inner = fields.get("function")
    function = inner if isinstance(inner, dict) else fields
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise _FaultyLine(
            f'{where}: expected {{"name": .., "parameters": JSON Schema}}, found {_short(given)}'
        )
    for part in function:
        if part not in _FUNCTION_KEYS:
            hint = did_you_mean(part, _FUNCTION_KEYS, f"known are {listing(_FUNCTION_KEYS)}")
            raise _FaultyLine(f"{where}: found the unknown key '{part}'; {hint}")
    for part in ("parameters", "returns"):
        if not isinstance(function.get(part, {}), dict):
            raise _FaultyLine(f"{where}.{part}: expected a JSON Schema, found {_short(function[part])}")
    return function


def _tool_of(function: _Fields, results: Sequence[FakeResult], calls: list[MadeCall]) -> Tool:
    """Return a fake of a function. Raises: ConfigError."""
    name = cast("str", function["name"])
    parameters = cast("dict[str, Json]", _schema(function.get("parameters") or {}))
    returns = function.get("returns")
    options: dict[str, Any] = {"effect": function["effect"]} if "effect" in function else {"effect": "write"}
    return Tool.from_callable(
        _fake(name, results, calls),
        name=name,
        parameters={"properties": {}, **parameters, "type": "object"},
        returns=None if returns is None else cast("dict[str, Json]", _schema(returns)),
        description=str(function.get("description") or ""),
        **options,
    )


def _fake(name: str, results: Sequence[FakeResult], calls: list[MadeCall]) -> Callable[..., Any]:
    given = [each for each in results if each.tool == name]

    async def fake(**args: Any) -> Any:  # noqa: ANN401  # JSON, as the schemas say
        calls.append(MadeCall(name, args))
        return next((each.result for each in given if each.args is None or each.args == args), None)

    return fake


def _schema(given: Json) -> Json:
    """Return a JSON Schema with JSON Schema's own names of types."""
    match given:
        case dict():
            named = {
                key: value if key in ("enum", "const", "default") else _schema(value)
                for key, value in given.items()
            }
            match named.get("type"):
                case "any":
                    del named["type"]
                case str(kind) if kind in _TYPES:
                    named["type"] = _TYPES[kind]
                case _:
                    pass
            return named
        case list():
            return [_schema(each) for each in given]
        case _:
            return given


# --- calls and results


def _calls(entry: _Fields) -> tuple[ExpectedCall, ...] | None:
    found = [key for key in _CALL_KEYS if key in entry]
    if not found:
        return None
    key = _one_of(entry, _CALL_KEYS, "the calls")
    given = entry[key]
    if not isinstance(given, list):
        raise _FaultyLine(f"'{key}': expected a list of calls, found {_short(given)}")
    return tuple(_call(f"'{key}'[{index}]", each) for index, each in enumerate(given))


def _call(where: str, given: Json) -> ExpectedCall:
    match given:
        case {"function": {"name": str(name), **rest}} | {"name": str(name), **rest}:
            return ExpectedCall.exact(name, _arguments(where, cast("Json", rest.get("arguments", {}))))
        # BFCL: {"tool": {"argument": [values]}}.
        case dict() if len(given) == 1:
            ((name, options),) = given.items()
            if isinstance(options, dict) and all(isinstance(each, list) for each in options.values()):
                return ExpectedCall.of_options(name, cast("dict[str, list[Json]]", options))
        case _:
            pass
    raise _FaultyLine(
        f'{where}: expected {{"name": .., "arguments": {{..}}}} or {{tool: {{argument: [values]}}}}, found {_short(given)}'
    )


def _arguments(where: str, given: Json) -> dict[str, Json]:
    try:
        value: Json = json.loads(given) if isinstance(given, str) else given
    except ValueError as error:
        raise _FaultyLine(f"{where}.arguments: expected JSON, found {_short(given)}: {error}") from error
    if not isinstance(value, dict):
        raise _FaultyLine(f"{where}.arguments: expected an object, found {_short(given)}")
    return value


def _results(given: Json) -> list[FakeResult]:
    match given:
        case None:
            return []
        case dict():
            return [FakeResult(tool, result) for tool, result in given.items()]
        case list():
            return [_result(f"'results'[{index}]", each) for index, each in enumerate(given)]
        case _:
            raise _FaultyLine(f"'results': expected tool -> result, or a list, found {_short(given)}")


def _result(where: str, given: Json) -> FakeResult:
    match given:
        case {"name": str(name), "result": result, **rest}:
            args = rest.get("arguments")
            return FakeResult(name, result, None if args is None else _arguments(where, cast("Json", args)))
        case _:
            raise _FaultyLine(
                f'{where}: expected {{"name": .., "arguments": .., "result": ..}}, found {_short(given)}'
            )


def _transcript(messages: Json) -> tuple[str, tuple[ExpectedCall, ...], tuple[FakeResult, ...]]:
    """Return what the conversation of a fine-tuning set has: the words of the user, the calls of the assistant, and the results of the tools."""
    events: list[Event] = []
    for raw, place in placed_objects(messages, "'messages'", "a message"):
        new = [*events_of(raw, place)]
        is_asked = any(isinstance(each, Said) and each.role == "user" for each in new)
        if is_asked and any(isinstance(each, Called) for each in events):
            raise _FaultyLine(
                f"{place}: expected one turn, found another message of the user: a set has one task a line"
            )
        events += new
    trace = trace_of("'messages'", events)
    if not trace.task:
        raise _FaultyLine("'messages': expected a message of a user, found none")
    made = [(call, _arguments(call.place, {} if call.args is None else call.args)) for call in trace.calls]
    results = [
        FakeResult(call.tool, _read_result(call.value), args)
        for call, args in made
        if call.outcome != "unknown"
    ]
    return trace.task, tuple(ExpectedCall.exact(call.tool, args) for call, args in made), tuple(results)


def _read_result(content: Json) -> Json:
    """Return the JSON of a tool's message; a text that is no JSON as it is."""
    try:
        return cast("Json", json.loads(content)) if isinstance(content, str) else content
    except ValueError:
        return content


def _short(value: Json) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}.."
