"""With `--json` stdout has exactly one JSON document and nothing else, whatever a command does; with a terminal's help beside it on stderr."""

from __future__ import annotations

import json
import shlex

import pytest
from firmplan.cli.app import app
from typer.main import get_command

WITHOUT_JSON = {"serve", "mcp", "demo", "traffic"}
"""They print no result: two serve, one shows how firmplan works, and one runs another command."""
SEND = {"firmplan": 1, "steps": [{"id": "mail", "tool": "send", "args": {"to": "me"}}], "output": "${mail}"}
ASK = {
    "firmplan": 1,
    "steps": [{"id": "who", "ask_person": "Who?", "returns": {"type": "string"}}],
    "output": "${who}",
}
ODD = {"firmplan": 1, "steps": [{"id": "odd", "tool": "half", "args": {"n": 3}}], "output": "${odd}"}
LOUD = {"firmplan": 1, "steps": [{"id": "x", "tool": "loud", "args": {"n": 1}}], "output": "${x}"}
NOISY = """
from firmplan import tool

print("a module of tools prints")


@tool(effect="pure")
def loud(n: int) -> int:
    "Print something."
    print("a tool prints")
    return n
"""

# In this order, on one store: each command with its words, its exit code, and a key of its document.
ANSWERS = (
    ("run plan.json -t tools.py -t noisy.py -i a=1 --run-id one", 0, "output"),
    ("run loud.json -t noisy.py", 0, "output"),
    ("run plan.json -t tools.py -i a=2 --run-id two", 0, "steps"),
    ("run send.json -t tools.py --run-id waits", 4, "status"),
    ("run send.json -t tools.py --run-id refused", 4, "status"),
    ("run send.json -t tools.py --run-id stopped", 4, "status"),
    ("run ask.json -t tools.py --run-id asks", 4, "status"),
    ("run odd.json -t tools.py --run-id odd", 1, "errors"),
    ("run plan.json -t tools.py", 2, "error"),
    ("resume waits -t tools.py", 4, "status"),
    ("watch one", 0, "output"),
    ("retry odd -t tools.py", 1, "errors"),
    ("fork one --at total -t tools.py", 0, "parent"),
    ("replay one", 0, "digest"),
    ("export one -o one.bundle", 0, "bundle"),
    ("artifacts list one", 0, "artifacts"),
    ("artifacts get one", 2, "error"),
    ("artifacts show one", 2, "error"),
    ("approve waits mail --by ann", 0, "steps"),
    ("answer asks who ann --by ann", 2, "error"),
    ("answer asks who '\"ann\"' --by ann", 0, "steps"),
    ("deny refused mail --by ann", 0, "steps"),
    ("decide stopped mail=approve --by ann", 0, "steps"),
    ("resolve stopped mail --retry --by ann", 2, "error"),
    ("cancel stopped", 0, "status"),
    ("explain one", 0, "steps"),
    ("explain one total", 0, "sentence"),
    ("diff one two", 0, "same"),
    ("diff one two --format html", 0, "same"),
    ("verify one -t tools.py", 0, "tools"),
    ("bisect one two", 0, "changes"),
    ("shadow one --model gpt-5-mini -t tools.py", 2, "error"),
    ("record one -o golden/one.bundle", 0, "bundle"),
    ("check plan.json -t tools.py", 0, "ok"),
    ("show one", 0, "steps"),
    ("show plan.json -t tools.py", 0, "firmplan"),
    ("plans save adding plan.json -t tools.py", 0, "digest"),
    ("plans", 0, "plans"),
    ("plans list", 0, "plans"),
    ("plans show adding", 0, "firmplan"),
    ("plans history adding", 0, "versions"),
    ("plans learn one -t tools.py", 0, "plan"),
    ("plans delete adding", 0, "deleted"),
    ("plans restore adding 1 -t tools.py", 0, "digest"),
    ("plan 'Add 3 and 4' -t tools.py", 0, "firmplan"),
    ("plan 'Add 3 and 4' -t tools.py --dry-run", 0, "messages"),
    ("tools -t tools.py", 0, "tools"),
    ("tools list -t tools.py", 0, "tools"),
    ("tools lint -t tools.py", 0, "remarks"),
    ("completion bash", 0, "script"),
    ("doctor -t tools.py", 0, "findings"),
    ("runs", 0, "runs"),
    ("runs --tree", 0, "runs"),
    ("runs delete two", 0, "runs"),
    ("runs prune --older 1d --dry-run", 0, "runs"),
    ("store", 0, "ok"),
    ("store check", 0, "ok"),
    ("store backup copy.db", 0, "file"),
    ("store upgrade", 0, "after"),
    ("cache", 0, "results"),
    ("cache gc --max-age 1d", 0, "forgotten"),
    ("cache clear", 0, "forgotten"),
    ("keys add ann --scope read", 0, "key"),
    ("keys list", 0, "keys"),
    ("keys revoke ann", 0, "keys"),
    ("schedules", 0, "schedules"),
    ("learn --trace none.json", 2, "error"),
    ("eval none.yaml", 2, "error"),
)


@pytest.fixture
def prepared(firmplan, home):
    """Plans and noisy tools."""
    for name, plan in (("send", SEND), ("ask", ASK), ("odd", ODD), ("loud", LOUD)):
        (home / f"{name}.json").write_text(json.dumps(plan))
    (home / "noisy.py").write_text(NOISY)
    return firmplan


def test_every_answer_is_one_document(prepared):
    """One pass over a store; what modules of tools print is no part of it."""
    wrong = []
    for line, code, key in ANSWERS:
        answer = prepared(*shlex.split(line), "--json")
        try:
            document = json.loads(answer.out)
        except ValueError:
            wrong.append((line, answer))
            continue
        if answer.code != code or key not in document:
            wrong.append((line, answer.code, list(document), answer.out[:300]))
    assert not wrong, "\n".join(map(str, wrong))


def commands(group=None, above=()):
    for name, command in (group or get_command(app)).commands.items():
        if getattr(command, "invoke_without_command", True) and name not in WITHOUT_JSON:
            yield (*above, name)
        if hasattr(command, "commands"):
            yield from commands(command, (*above, name))


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_every_error_is_one_document(firmplan, words):
    """A misspelt option of any command."""
    answer = firmplan(*words, "--nonsense", "--json")
    assert answer.code == 2
    assert set(answer.document) == {"error"}
    assert answer.document["error"]["code"] == "usage"
    assert answer.err == ""
