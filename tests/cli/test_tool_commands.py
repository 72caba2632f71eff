"""The commands about tools: a missing safeguard is an error of lint."""

from __future__ import annotations

TOOLS = '''
import urllib.request

from firmplan import tool


@tool(effect="read", resource="web", timeout=9, reuse_for="1h")
def fetch(url: str) -> str:
    """Fetch a page."""
    return urllib.request.urlopen(url).read().decode()
'''


def test_the_default_trust_holds_for_commands(firmplan, tmp_path):
    """`tools list` and `check` count unstated trust as the setting says."""
    (tmp_path / "web.py").write_text(TOOLS)
    (tmp_path / "firmplan.toml").write_text('default_trust = "untrusted"\ntools = ["web.py"]\n')
    assert [each["trust"] for each in firmplan("tools", "--json").document["tools"]] == ["untrusted"]
    assert firmplan("tools", "lint").code == 0


def test_lint_fails_where_a_tool_from_outside_states_no_trust(firmplan, tmp_path):
    """With exit code 2, since the declaration has to change; stated trust mends it."""
    (tmp_path / "web.py").write_text(TOOLS)
    done = firmplan("tools", "lint", "-t", "web.py")
    assert done.code == 2
    assert "error: fetch: it reaches the network (urllib.request.urlopen)" in done.out
    done = firmplan("tools", "lint", "-t", "web.py", "--json")
    assert (done.code, [each["severity"] for each in done.document["remarks"]]) == (2, ["error"])
    (tmp_path / "stated.py").write_text(TOOLS.replace("timeout=9", 'timeout=9, trust="untrusted"'))
    done = firmplan("tools", "lint", "-t", "stated.py")
    assert (done.code, done.out) == (0, "")
