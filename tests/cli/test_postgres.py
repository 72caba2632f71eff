"""`--store postgresql://..`: the commands on a store that is on a server; none of them shows its password."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.postgres
SECRET = "s3cr3t-Pa55"


@pytest.fixture
def on_server(firmplan, postgres_url):
    """A command with `--store`; whatever it says has no password in it."""

    def command(*words):
        answer = firmplan(*words, "--store", postgres_url)
        assert SECRET not in answer.out + answer.err
        return answer

    return command


@pytest.fixture
def name(postgres_url):
    """The store as it may be shown."""
    return postgres_url.replace(f":{SECRET}@", "@")


def test_a_run_is_made_shown_replayed_and_explained(on_server, home):
    """The main job; nothing is left in the folder."""
    ran = on_server("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--run-id", "r", "--json")
    assert (ran.code, ran.document["output"]) == (0, 3)
    assert on_server("replay", "r").code == 0
    assert on_server("show", "r").code == 0
    assert "the first call" in on_server("explain", "r", "total").out
    again = on_server("run", "plan.json", "-t", "tools.py", "-i", "a=1", "--json").document
    assert again["steps"]["total"]["reused"]
    assert on_server("diff", "r", again["id"]).code == 0
    assert [run["id"] for run in on_server("runs", "--json").document["runs"]] == [again["id"], "r"]
    assert on_server("cache", "--json").document["results"] == 1
    assert on_server("plans", "save", "sum", "plan.json", "-t", "tools.py").code == 0
    assert on_server("run", "sum", "-t", "tools.py", "-i", "a=2").code == 0
    assert on_server("export", "r", "-o", "r.bundle").code == 0
    assert sorted(path.name for path in home.iterdir()) == ["plan.json", "r.bundle", "tools.py"]


def test_a_write_waits_and_the_command_to_type_next_has_no_password(on_server, plan_file, name):
    """It names the store, and the password is left to whoever types it."""
    steps = [{"id": "mail", "tool": "send", "args": {"to": "me"}}]
    plan = plan_file(steps=steps, inputs={}, task=None, output="${mail}")
    waits = on_server("run", str(plan), "-t", "tools.py", "--run-id", "r")
    assert waits.code == 4
    assert f"--store '{name}'" in waits.err + waits.out
    assert on_server("approve", "r", "mail", "--by", "me", "-t", "tools.py").code == 0
    assert on_server("resume", "r", "-t", "tools.py").code == 0


def test_commands_that_look_make_no_tables(on_server, cluster, postgres_url, name):
    """A misspelt database is a mistake; one without a store in it is told as such, and left as it is."""
    assert f"no runs in {name}: there is no store yet" in on_server("runs").err
    assert on_server("show", "r").code == 2
    for words in (("check",), ("backup", "copy.db"), ("upgrade",)):
        answer = on_server("store", *words)
        assert answer.code == 2
        assert f"there is no store at {name}" in answer.err
    schema = postgres_url.rpartition("%3D")[2]
    found = cluster.sql(f"SELECT 1 FROM information_schema.schemata WHERE schema_name='{schema}'")
    assert found == []


def test_a_store_is_checked_copied_and_brought_up(on_server, firmplan, home, cluster, postgres_url, name):
    """The copy is a store in a file; a changed journal is found."""
    for number in (1, 2):
        on_server("run", "plan.json", "-t", "tools.py", "-i", f"a={number}", "--run-id", f"r{number}")
    assert on_server("store", "check").out == f"{name}: 2 runs checked, everything is as it was written\n"
    assert on_server("store", "upgrade", "--json").document == {"store": name, "before": 2, "after": 2}
    assert on_server("store", "upgrade").out == f"{name} has format 2, the newest: nothing had to be done\n"
    copied = on_server("store", "backup", "copy.db", "--json").document
    assert (copied["store"], copied["file"]) == (name, "copy.db")
    assert copied["bytes"] == (home / "copy.db").stat().st_size
    assert firmplan("store", "check", "--store", "copy.db").code == 0
    assert firmplan("replay", "r2", "--store", "copy.db").code == 0
    cluster.sql(
        "UPDATE firmplan_journal SET lines=convert_to(replace(convert_from(lines, 'UTF8'), 'RunStarted', 'RunStartet'), 'UTF8') "
        "WHERE run_id='r2'",
        postgres_url,
    )
    checked = on_server("store", "check")
    assert checked.code == 1
    assert "run r2: the journal of run r2 does not match" in checked.out


def test_the_environment_and_the_file_name_a_server_too(firmplan, home, postgres_url, monkeypatch, name):
    """A URL in `firmplan.toml` is no path beside it."""
    (home / "firmplan.toml").write_text(f'store = "{postgres_url}"\ntools = ["tools.py"]\n')
    assert firmplan("run", "plan.json", "-i", "a=1", "--run-id", "r").code == 0
    (home / "firmplan.toml").unlink()
    monkeypatch.setenv("FIRMPLAN_STORE", postgres_url)
    assert firmplan("replay", "r").code == 0
    asked = firmplan("replay", "nothing")
    assert name in asked.err
    assert SECRET not in asked.err


def test_doctor_tells_how_the_store_is(on_server, name, firmplan, cluster):
    """Not made yet, well, or what to do; its password is not shown."""
    assert f"{name} (from the command line): not made yet" in on_server("doctor").out
    on_server("run", "plan.json", "-t", "tools.py", "-i", "a=1")
    assert "ok  store" in on_server("doctor").out
    wrong = firmplan("doctor", "--store", cluster.url(password="wrong-" + SECRET))
    assert wrong.code == 1
    assert "give the right password in the URL, in PGPASSWORD" in wrong.err
    assert SECRET not in wrong.out + wrong.err


def test_a_store_that_cannot_be_used_is_a_wrong_command(firmplan, cluster):
    """Exit code 2, what to do, and where a store is named."""
    wrong = firmplan(
        "run", "plan.json", "-t", "tools.py", "-i", "a=1", "--store", cluster.url(database="nothing")
    )
    assert wrong.code == 2
    assert 'database "nothing" does not exist: make it' in wrong.err
    assert "a store is named by --store, FIRMPLAN_STORE or firmplan.toml" in wrong.err
    assert SECRET not in wrong.err
