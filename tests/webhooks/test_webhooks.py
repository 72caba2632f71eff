"""Webhooks as an engine sends them: what is told, how often it is tried again, and that nothing is lost, on SQLite and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import sqlite3

import pytest
from firmplan import ConfigError, Engine, InputRejected, Secret, StoreError, Webhook, tool
from firmplan.executor import Submitter
from firmplan.testing import FakeClock
from firmplan.webhooks import endpoint as endpoint_module
from firmplan.webhooks import outbox as outbox_module
from firmplan.webhooks import sender as sender_module
from hook_receiver import SECRET, Receiver, verified

START = 1_767_225_600.0
PLAN = {"firmplan": 1, "steps": [{"id": "x", "set": "hidden words"}], "output": "${x}"}
FAIL = {"firmplan": 1, "steps": [{"id": "no", "fail": "private reason"}]}
MAIL = {"firmplan": 1, "steps": [{"id": "mail", "tool": "send", "args": {"to": "me"}}], "output": "${mail}"}
TWICE = {
    "firmplan": 1,
    "steps": [
        {"id": "one", "tool": "send", "args": {"to": "secret person"}},
        {"id": "two", "tool": "send", "args": {"to": "b"}, "after": ["one"]},
    ],
}


@tool(effect="write", approval="always", resource="mail", idempotent=True)
def send(to: str) -> str:
    """Send a mail."""
    return to


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request, tmp_path):
    return request.getfixturevalue("postgres_url") if request.param == "postgres" else tmp_path / "s.db"


def hook(receiver, name="ops", **options):
    return Webhook(name=name, url=receiver.url, secret=SECRET, **options)


def on_engine(store, webhooks, work, clock=None):
    clock = clock or FakeClock(START, auto=False)

    async def main():
        async with Engine([send], store=store, clock=clock, webhooks=webhooks) as engine:
            return await work(engine, clock)

    return asyncio.run(main())


def test_the_end_and_each_wait_of_a_run_are_told(store):
    """Signed, small, and without values or words of the run; what waits is named with its attempt."""
    with Receiver() as receiver:

        async def work(engine, clock):
            run = await engine.submit(PLAN)
            await engine.wait(run.id)
            (sent,) = await engine.deliver_webhooks()
            assert (sent.state, sent.attempts, sent.answered, sent.run_id) == ("delivered", 1, 204, run.id)
            assert await engine.deliver_webhooks() == []
            failed = await engine.run(FAIL)
            await engine.deliver_webhooks()
            waits = await engine.run(TWICE)
            await engine.deliver_webhooks()
            await engine.approve(waits.id, "one", by="me")
            await engine.resume(waits.id)
            await engine.deliver_webhooks()
            await engine.cancel(waits.id)
            await engine.resume(waits.id)
            await engine.deliver_webhooks()
            return run.id, failed.id, waits.id

        run, failed, waits = on_engine(store, [hook(receiver)], work)
        told = receiver.messages()
        assert [(each["type"], each["data"]["run_id"]) for each in told] == [
            ("run.succeeded", run),
            ("run.failed", failed),
            ("run.waiting", waits),
            ("run.waiting", waits),
            ("run.cancelled", waits),
        ]
        assert told[0]["timestamp"] == "2026-01-01T00:00:00.000Z"
        assert [each["data"]["status"] for each in told] == [
            "succeeded",
            "failed",
            "waiting",
            "waiting",
            "cancelled",
        ]
        assert told[2]["data"]["waiting"] == [{"step": "one", "status": "waiting", "attempt": 1}]
        assert told[3]["data"]["waiting"] == [{"step": "two", "status": "waiting", "attempt": 1}]
        assert (
            told[1]["data"]["errors"] == [{"step": "no", "code": "failed"}]
            or told[1]["data"]["errors"][0]["step"] == "no"
        )
        everything = b"".join(body for _, body in receiver.requests)
        for words in (b"hidden", b"private", b"secret person", b"output"):
            assert words not in everything
        assert len(set(receiver.ids())) == 5
        assert all(headers["user-agent"].startswith("firmplan/") for headers, _ in receiver.requests)


def test_an_endpoint_hears_what_it_asked_for(store):
    """Events, a tenant, outputs: each endpoint has its own message with its own id."""
    with Receiver() as everything, Receiver() as failures, Receiver() as acme:
        webhooks = [
            hook(everything, outputs=True),
            hook(failures, "failures", events=["run.failed"]),
            hook(acme, "acme", tenant="acme"),
        ]

        async def work(engine, _):
            await engine.run(PLAN)
            await engine.run(FAIL)
            await engine.run(PLAN, submitter=Submitter("ann", tenant="acme"))
            await engine.deliver_webhooks()

        on_engine(store, webhooks, work)
        told = sorted(
            (each["type"], each["data"].get("output"), each["data"].get("tenant", ""))
            for each in everything.messages()
        )
        assert told == [
            ("run.failed", None, ""),
            ("run.succeeded", "hidden words", ""),
            ("run.succeeded", "hidden words", "acme"),
        ]
        assert [each["type"] for each in failures.messages()] == ["run.failed"]
        assert [each["data"]["tenant"] for each in acme.messages()] == ["acme"]
        assert len({*everything.ids(), *failures.ids(), *acme.ids()}) == 5


def test_a_large_output_is_left_out(store, monkeypatch):
    monkeypatch.setattr("firmplan.webhooks.messages.OUTPUT_BYTES_MAX", 5)
    with Receiver() as receiver:

        async def work(engine, _):
            await engine.run(PLAN)
            await engine.deliver_webhooks()

        on_engine(store, [hook(receiver, outputs=True)], work)
        (told,) = receiver.messages()
        assert ("output" in told["data"], told["data"]["output_left_out"]) == (False, True)


@pytest.mark.parametrize("answer", [500, 503, 404, 301, "cut"])
def test_a_message_is_sent_again_until_it_arrives(store, answer):
    """With the same id and the same bytes, and a new timestamp and signature; the waits grow."""
    with Receiver(answer, answer, 204) as receiver:

        async def work(engine, clock):
            await engine.run(PLAN)
            (sent,) = await engine.deliver_webhooks()
            assert (sent.state, sent.attempts) == ("pending", 1)
            assert sent.answered == (None if answer == "cut" else answer)
            assert 5 <= sent.next_at - START <= 5.5
            assert await engine.deliver_webhooks() == []
            clock.advance(6)
            (sent,) = await engine.deliver_webhooks()
            assert (sent.state, sent.attempts) == ("pending", 2)
            clock.advance(299)
            assert await engine.deliver_webhooks() == []
            clock.advance(40)
            (sent,) = await engine.deliver_webhooks()
            assert (sent.state, sent.attempts, sent.detail) == ("delivered", 3, "")
            clock.advance(10**6)
            assert await engine.deliver_webhooks() == []

        on_engine(store, [hook(receiver)], work)
        assert len(receiver.requests) == 3
        assert len(set(receiver.ids())) == 1
        assert len({body for _, body in receiver.requests}) == 1
        stamps = [int(headers["webhook-timestamp"]) for headers, _ in receiver.requests]
        assert stamps == [START, START + 6, START + 345]
        receiver.messages()


def test_a_redirect_is_not_followed(store):
    with Receiver() as other:

        def elsewhere(handler):
            handler.send_response(302)
            handler.send_header("Location", other.url)
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        with Receiver(elsewhere) as receiver:

            async def work(engine, _):
                await engine.run(PLAN)
                (sent,) = await engine.deliver_webhooks()
                assert (sent.state, sent.answered) == ("pending", 302)

            on_engine(store, [hook(receiver)], work)
        assert other.requests == []


def test_a_receiver_that_never_answers_is_given_up_for_now(store, monkeypatch):
    """And one whose body never ends is not read."""
    monkeypatch.setattr(sender_module, "TIMEOUT_S", 0.3)
    with Receiver("slow") as slow, Receiver("endless") as endless:

        async def work(engine, _):
            await engine.run(PLAN)
            first, second = await engine.deliver_webhooks("slow"), await engine.deliver_webhooks("endless")
            assert (first[0].state, first[0].answered) == ("pending", None)
            assert "no answer came" in first[0].detail or "Timeout" in first[0].detail
            assert (second[0].state, second[0].answered) == ("delivered", 200)

        on_engine(store, [hook(slow, "slow"), hook(endless, "endless")], work)


def test_a_message_is_given_up_after_three_days(store, capfd):
    """With a line in the log; a person can have it sent again, under the same id."""
    with Receiver(500) as receiver:

        async def work(engine, clock):
            await engine.run(PLAN)
            waited = 0.0
            for attempt in range(1, len(sender_module.WAITS_S) + 2):
                (sent,) = await engine.deliver_webhooks()
                assert sent.attempts == attempt
                if attempt <= len(sender_module.WAITS_S):
                    assert sent.state == "pending"
                    waited += sent.next_at - clock.now()
                    clock.advance(sent.next_at - clock.now() + 1)
            assert (sent.state, sent.detail) == ("failed", "the endpoint answered 500")
            assert 2.5 * 86_400 < waited < 4 * 86_400
            clock.advance(10**6)
            assert await engine.deliver_webhooks() == []
            (listed,) = (await engine.list_deliveries(state="failed")).deliveries
            assert listed.id == sent.id
            receiver.answers[:] = [200]
            assert (await engine.retry_delivery(sent.id)).state == "pending"
            (sent,) = await engine.deliver_webhooks()
            assert (sent.state, sent.attempts) == ("delivered", 1)

        on_engine(store, [hook(receiver)], work)
        assert len(set(receiver.ids())) == 1
    assert "webhook given up" in capfd.readouterr().err


def test_a_receiver_says_when_to_come_back_or_that_it_is_gone(store):
    def later(handler):
        handler.send_response(429)
        handler.send_header("Retry-After", "600")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    with Receiver(later, 410) as receiver:

        async def work(engine, clock):
            await engine.run(PLAN)
            (sent,) = await engine.deliver_webhooks()
            assert sent.next_at == START + 600
            clock.advance(600)
            (sent,) = await engine.deliver_webhooks()
            assert (sent.state, sent.attempts, sent.answered) == ("failed", 2, 410)

        on_engine(store, [hook(receiver)], work)


def test_two_processes_send_a_message_once(store):
    """They look at the same moment, again and again."""
    clock = FakeClock(START, auto=False)
    with Receiver() as receiver:

        async def main():
            webhooks = [hook(receiver)]
            async with (
                Engine([send], store=store, clock=clock, webhooks=webhooks) as one,
                Engine([send], store=store, clock=clock, webhooks=webhooks) as two,
            ):
                for _ in range(20):
                    await one.run({**PLAN, "output": _})
                for _ in range(6):
                    await asyncio.gather(*(each.deliver_webhooks() for each in (one, two, one, two)))
                return (await one.list_deliveries(limit=100)).deliveries

        deliveries = asyncio.run(main())
        assert [each.state for each in deliveries] == ["delivered"] * 20
        assert sorted(receiver.ids()) == sorted(each.id for each in deliveries)


@pytest.mark.parametrize("place", ["post", "lease", "settle"])
def test_a_process_that_dies_loses_no_message(store, place, monkeypatch):
    """Before the message is made, before it is sent, and after: another process sends it, perhaps again, under the same id."""
    clock = FakeClock(START, auto=False)
    with Receiver() as receiver:

        async def main():
            async with Engine([send], store=store, clock=clock, webhooks=[hook(receiver)]) as dying:
                await dying.run(PLAN)
                with monkeypatch.context() as patch:

                    async def die(*_, **__):
                        raise StoreError("power is gone")

                    patch.setattr(outbox_module.Outbox, place, die)
                    with pytest.raises(StoreError, match="power is gone"):
                        await dying.deliver_webhooks()
            async with Engine([send], store=store, clock=clock, webhooks=[hook(receiver)]) as other:
                early = await other.deliver_webhooks()
                clock.advance(sender_module.LEASE_S + 1)
                late = await other.deliver_webhooks()
                assert len(early) == (0 if place == "settle" else 1)
                assert [each.state for each in (*early, *late)] == ["delivered"]
                assert await other.deliver_webhooks() == []

        asyncio.run(main())
        assert len(receiver.requests) == (2 if place == "settle" else 1)
        assert len(set(receiver.ids())) == 1


def test_a_task_that_cannot_be_planned_is_told(store):
    """Such a run has no journal: what is told is written with its header."""
    with Receiver() as receiver:

        async def work(engine, _):
            run = await engine.submit("Do what nobody has a plan for")
            assert (await engine.wait(run.id)).status == "failed"
            await engine.deliver_webhooks()
            return run.id

        run = on_engine(store, [hook(receiver)], work)
        (told,) = receiver.messages()
        assert (told["type"], told["data"]["run_id"], told["data"]["plan_digest"]) == (
            "run.failed",
            run,
            None,
        )
        assert b"nobody has a plan" not in receiver.requests[0][1]


def test_an_engine_without_webhooks_notes_nothing(tmp_path):
    """Nothing piles up in a store that nobody is told of."""

    async def work(engine, _):
        await engine.run(PLAN)

    on_engine(tmp_path / "s.db", [], work)
    with sqlite3.connect(tmp_path / "s.db") as db:
        assert db.execute("SELECT count(*) FROM webhook_notices").fetchone() == (0,)
    db.close()


def test_a_run_that_was_deleted_is_told_with_what_is_known(store):
    with Receiver() as receiver:

        async def work(engine, _):
            run = await engine.run(PLAN)
            await engine.delete(run.id)
            await engine.deliver_webhooks()
            return run.id

        run = on_engine(store, [hook(receiver)], work)
        (told,) = receiver.messages()
        assert told["data"] == {"run_id": run, "status": "succeeded"}


def test_a_schedule_that_fails_is_told(store):
    with Receiver() as receiver:

        async def work(engine, clock):
            await engine.save_plan("p", PLAN)
            await engine.add_schedule("s", "p", every=60)
            await engine.delete_plan("p")
            clock.advance(60)
            await engine.fire_schedules()
            await engine.deliver_webhooks()

        on_engine(store, [hook(receiver)], work)
        (told,) = receiver.messages()
        assert (told["type"], told["data"]["schedule"], told["data"]["at"]) == (
            "schedule.failed",
            "s",
            START + 60,
        )
        assert "no plan is saved as 'p'" in told["data"]["detail"]


def test_a_secret_is_rotated_without_a_gap(store, tmp_path, monkeypatch):
    """While the receiver knows the old one alone, messages are signed with both; a missing secret sends nothing, and the message waits."""
    new = endpoint_module.new_secret()
    with Receiver() as receiver:
        monkeypatch.setenv("HOOK_OLD", SECRET)
        (tmp_path / "new").write_text(new + "\n")
        webhook = Webhook(
            name="ops",
            url=receiver.url,
            secret=Secret(file=tmp_path / "new"),
            previous_secret=Secret(env="HOOK_OLD"),
        )

        async def work(engine, clock):
            await engine.run(PLAN)
            monkeypatch.delenv("HOOK_OLD")
            (sent,) = await engine.deliver_webhooks()
            assert (sent.state, sent.answered) == ("pending", None)
            assert "HOOK_OLD is not set" in sent.detail
            assert receiver.requests == []
            monkeypatch.setenv("HOOK_OLD", SECRET)
            clock.advance(6)
            (sent,) = await engine.deliver_webhooks()
            assert sent.state == "delivered"

        on_engine(store, [webhook], work)
        ((headers, body),) = receiver.requests
        assert verified(headers, body, SECRET) == verified(headers, body, new)


def test_a_message_has_the_signature_of_the_specification():
    """The values are those of the reference implementations' own test."""
    webhook = Webhook(name="a", url="https://example.org", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = webhook.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://hooks.example.org/"}, "expected https, found http to hooks.example.org"),
        ({"url": "ftp://127.0.0.1/"}, "expected https://HOST"),
        ({"url": "file:///etc/passwd"}, "expected https://HOST"),
        ({"url": "https://"}, "expected https://HOST"),
        ({"url": "https://user:pass@example.org/"}, "expected no user and password"),
        ({"url": "https://example.org:99999/"}, "expected the URL"),
        ({"url": "http://127.0.0.1.example.org/"}, "expected https"),
        ({"secret": "short"}, "expected at least 24 bytes as base64"),
        ({"secret": "whsec_" + "a" * 8}, "expected at least 24 bytes"),
        ({"secret": 5}, "expected text or a Secret"),
        ({"events": ["run.suceeded"]}, "did you mean 'run.succeeded'"),
        ({"events": "run.failed"}, "expected a list of events"),
        ({"name": "a b"}, "a webhook's name"),
        ({"tenant": "a b"}, "tenant"),
    ],
)
def test_a_faulty_endpoint_is_refused(changes, words):
    """And no message shows the secret or the path of the URL."""
    given = {"name": "a", "url": "https://example.org/t0ken", "secret": SECRET, **changes}
    with pytest.raises(ConfigError) as fault:
        Webhook(**given)
    assert words in str(fault.value)
    assert "t0ken" not in str(fault.value)
    assert SECRET not in str(fault.value)


def test_http_is_allowed_where_it_is_said(tmp_path):
    assert Webhook(name="a", url="http://hooks.example.org/x", secret=SECRET, allow_http=True)
    assert "t0ken" not in json.dumps(Webhook(name="a", url="https://e.org/t0ken", secret=SECRET).to_dict())
    with pytest.raises(ConfigError, match="two endpoints are called 'a'"):
        Engine([], store="memory:", webhooks=[Webhook(name="a", url="https://e.org", secret=SECRET)] * 2)
    with pytest.raises(ConfigError, match="expected a list of Webhook"):
        Engine([], store="memory:", webhooks=["https://e.org"])


def test_messages_are_listed_in_pages(store):
    with Receiver(500) as receiver:

        async def work(engine, clock):
            for number in range(5):
                await engine.run({**PLAN, "output": number})
                await engine.deliver_webhooks()
                clock.advance(1)
            seen, cursor = [], None
            while True:
                page = await engine.list_deliveries(limit=2, cursor=cursor, endpoint="ops", state="pending")
                seen += page.deliveries
                if (cursor := page.cursor) is None:
                    break
            assert [each.created - START for each in seen] == [4, 3, 2, 1, 0]
            assert (await engine.list_deliveries(endpoint="nope")).deliveries == ()
            for bad in (
                {"limit": 0},
                {"limit": 501},
                {"state": "lost"},
                {"cursor": "x"},
                {"cursor": "a~b"},
                {"endpoint": "\u00e4"},
            ):
                with pytest.raises(InputRejected):
                    await engine.list_deliveries(**bad)
            with pytest.raises(InputRejected, match="there is no webhook 'opps'"):
                await engine.deliver_webhooks("opps")
            with pytest.raises(InputRejected) as fault:
                await engine.retry_delivery("msg_0")
            assert fault.value.code == "unknown-delivery"
            tested = await engine.test_webhook("ops")
            assert (tested.event, tested.state, tested.answered) == ("webhook.test", "failed", 500)
            assert len((await engine.list_deliveries(limit=100)).deliveries) == 5

        on_engine(store, [hook(receiver)], work)


def test_old_messages_are_forgotten(store):
    """Thirty days after they were delivered or given up; those that are pending stay."""
    with Receiver(204, 500) as receiver:

        async def work(engine, clock):
            await engine.run(PLAN)
            await engine.deliver_webhooks()
            await engine.run({**PLAN, "output": 1})
            await engine.deliver_webhooks()
            clock.advance(31 * 86_400)
            await engine.run({**PLAN, "output": 2})
            await engine.deliver_webhooks()
            return [each.state for each in (await engine.list_deliveries()).deliveries]

        assert on_engine(store, [hook(receiver)], work) == ["pending", "pending"]
