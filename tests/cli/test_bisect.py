"""`firmplan bisect`: where an output changed in a line of runs."""

from __future__ import annotations


def made(firmplan, a):
    return firmplan("run", "plan.json", "-t", "tools.py", "-i", f"a={a}", "--json").document["id"]


def test_bisect_in_words_and_as_json(firmplan):
    """The answer names the two runs and the step; --json has the same; --exit-code makes a change a failure."""
    runs = [made(firmplan, a) for a in (1, 1, 4)]
    answer = firmplan("bisect", *runs)
    assert answer.code == 0
    assert "output changed once in 3 runs" in answer.out
    assert f"between {runs[1]} and {runs[2]}:" in answer.out
    document = firmplan("bisect", *runs, "--json").document
    assert document["changed"]
    assert document["changes"][0]["first"]["step"] == "total"
    assert firmplan("bisect", *runs, "--exit-code").code == 1
    assert firmplan("bisect", *runs[:2], "--exit-code").code == 0


def test_bisect_of_one_run_is_a_wrong_command(firmplan):
    """Exit code 2, and what was expected."""
    answer = firmplan("bisect", made(firmplan, 1))
    assert answer.code == 2
    assert "at least 2 runs" in answer.err
    assert firmplan("bisect", "nowhere", "nothing").code == 2
