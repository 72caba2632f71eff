"""`firmplan keys`: a key is printed once, listed without its text, and revoked by name or id."""

from __future__ import annotations

import re

from firmplan import Engine

KEY = re.compile(r"fpk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}\n")


def test_a_key_is_made_listed_and_revoked(firmplan, home):
    """Stdout is the key and nothing else; the list has everything but the key."""
    made = firmplan("keys", "add", "ann", "--scope", "submit,read", "--tenant", "acme", "--expires", "90d")
    assert made.code == 0
    assert KEY.fullmatch(made.out)
    assert "of ann, of the tenant acme: keep it now" in made.err
    own = firmplan(
        "keys", "add", "bob", "--scope", "read", "--scope", "approve", "--may-approve-own", "--json"
    )
    assert own.document["scopes"] == ["read", "approve"]
    assert KEY.fullmatch(own.document["key"] + "\n")
    listed = firmplan("keys")
    assert listed.code == 0
    assert made.out.strip() not in listed.out
    lines = listed.out.splitlines()
    assert [line.split()[1] for line in lines] == ["NAME", "ann", "bob"]
    assert "read submit" in lines[1]
    assert "acme" in lines[1]
    assert "until" in lines[1]
    assert "read approve +own" in lines[2]
    with Engine([], store=home / "firmplan.db") as engine:
        assert engine.find_key_sync(made.out.strip()).name == "ann"
    keys = firmplan("keys", "list", "--json").document["keys"]
    assert [key["name"] for key in keys] == ["ann", "bob"]
    assert all("key" not in key and "digest" not in key for key in keys)
    assert keys[0]["used"] is not None
    assert firmplan("keys", "revoke", "ann").out == "revoked 1 key of ann\n"
    by_id = firmplan("keys", "revoke", keys[1]["id"], "--json")
    assert by_id.document["keys"][0]["name"] == "bob"
    assert "revoked 20" in firmplan("keys").out


def test_what_does_not_fit_is_refused(firmplan):
    """Exit code 2, with what was expected; nothing is made."""
    for words, told in (
        (("add", "ann"), "at least one of read, submit, approve, admin"),
        (("add", "ann", "--scope", "write"), "found 'write'"),
        (("add", "an n", "--scope", "read"), "a key's name"),
        (("add", "ann", "--scope", "read", "--tenant", "a/b"), "tenant"),
        (("add", "ann", "--scope", "read", "--expires", "never"), "expires"),
        (("revoke", "ann"), "expected the name or the id of a key"),
    ):
        answer = firmplan("keys", *words)
        assert (answer.code, told in answer.err) == (2, True), (words, answer.err)
    assert "no keys in" in firmplan("keys").err


def test_looking_for_keys_makes_no_store(firmplan, home):
    """A list or a revocation beside the right folder leaves nothing behind."""
    assert firmplan("keys").code == 0
    assert firmplan("keys", "revoke", "ann").code == 2
    assert not (home / "firmplan.db").exists()


def test_plans_of_a_tenant_have_qualified_names(firmplan, home):
    """The operator saves, shows and runs them by these; the list without them is that of no tenant."""
    assert firmplan("plans", "save", "acme:sum", "plan.json", "-t", "tools.py").code == 0
    shown = firmplan("plans", "show", "acme:sum")
    assert (shown.code, "Add {a} and {b}" in shown.out) == (0, True)
    assert firmplan("plans", "--json").document["plans"] == []
    assert firmplan("plans", "show", "sum").code == 2
    assert firmplan("plans", "save", "a:b:c", "plan.json", "-t", "tools.py").code == 2
