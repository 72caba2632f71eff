"""Webhooks on the command line, with a real receiver."""

from __future__ import annotations

import json

import pytest
from firmplan import Webhook
from hook_receiver import Receiver, settings


def test_the_command_line_sends_tests_and_lists(home, firmplan):
    """Without a server: `deliver` sends what is due, also what a run of the command line left."""
    (home / "p.json").write_text(json.dumps({"firmplan": 1, "steps": [{"id": "x", "set": 1}], "output": 1}))
    with Receiver(204, 204, 500) as receiver:
        settings(home, receiver)

        def answer(*words, code=0):
            said = firmplan(*words, "--json")
            assert said.code == code, said
            return said.document

        run = answer("run", "p.json")["id"]
        (sent,) = answer("webhooks", "deliver")["deliveries"]
        assert (sent["state"], sent["run_id"]) == ("delivered", run)
        assert answer("webhooks", "test", "ops")["state"] == "delivered"
        assert answer("webhooks", "test", "ops", code=1)["answered"] == 500
        (listed,) = answer("webhooks", "deliveries", "--state", "delivered")["deliveries"]
        assert listed["id"] == sent["id"]
        assert answer("webhooks", "retry", sent["id"])["state"] == "pending"
        assert answer("webhooks", "deliver", code=1)["deliveries"][0]["state"] == "pending"
        assert [each["name"] for each in answer("webhooks")["webhooks"]] == ["ops"]
        assert "no webhook" in answer("webhooks", "test", "oops", code=2)["error"]["message"]
        made = firmplan("webhooks", "secret").out.strip()
        Webhook(name="a", url="https://example.org", secret=made)
        assert [each["type"] for each in receiver.messages()].count("webhook.test") == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[webhooks.a]\nurl = "http://example.org/t0ken"\nsecret = {env = "X"}', "webhooks.a (in "),
        ('[webhooks.a]\nurl = "https://e.org"\nsecret = "text"', "secret"),
        ('[webhooks.a]\nurl = "https://e.org"\nsecret = {}', "expected one of env, file and keyring"),
        (
            '[webhooks.a]\nurl = "https://e.org"\nsecret = {env = "X"}\nevents = ["run.ended"]',
            "there is no event",
        ),
        ('[webhooks.a]\nurl = "https://e.org"\nsecret = {env = "X"}\nretries = 5', "retries"),
        ('[webhooks."a b"]\nurl = "https://e.org"\nsecret = {env = "X"}', "a webhook's name"),
    ],
)
def test_a_faulty_setting_is_named(home, firmplan, text, words):
    (home / "firmplan.toml").write_text(text)
    said = firmplan("webhooks")
    assert said.code == 2
    assert words in said.err
    assert "t0ken" not in said.err
