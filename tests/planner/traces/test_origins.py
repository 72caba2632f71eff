"""Where arguments come from: selections, expressions, loops, constants, secrets, and what is said where nothing explains them."""

from __future__ import annotations

import json

import pytest
from agent_traces import TOOLS, chat
from firmplan import InputRejected, learn_from_trace, tool

INVOICES = [
    {"id": 111, "amount": 120.0, "status": "open", "due": "2026-01-10", "urgent": False},
    {"id": 112, "amount": 80.5, "status": "paid", "due": "2026-02-10", "urgent": False},
    {"id": 113, "amount": 42.0, "status": "open", "due": "2026-03-10", "urgent": True},
]
LISTED = ("list_invoices", {"customer_id": 77}, INVOICES)


def learned(*traces, tools=TOOLS):
    """Return what was learnt, which has to make the calls of the traces."""
    found = (
        learn_from_trace(traces[0], tools) if len(traces) == 1 else learn_from_trace(_files(traces), tools)
    )
    assert [each.differences for each in found.rehearsals] == [() for _ in found.rehearsals], str(found)
    return found


def _files(traces):
    from firmplan.planner.traces.reading import read_traces

    return [trace for each in traces for trace in read_traces(each)]


def steps_of(found):
    return {step["id"]: step for step in found.plan.to_dict()["steps"]}


def args_of(found, step):
    return steps_of(found)[step]["args"]


def remarks_of(found, kind):
    return [f"{each.place}: {each.message}" for each in found.remarks if each.kind == kind]


@pytest.mark.parametrize(
    ("task", "chosen", "code"),
    [
        ("Remind of the cheapest invoice", 113, "min(list_invoices, key=lambda x: x.amount).id"),
        ("Remind of the latest invoice", 113, "max(list_invoices, key=lambda x: x.due).id"),
        ("Remind of the invoice that is paid", 112, "[x for x in list_invoices if x.status == inputs.status][0].id"),
        ("Remind of the urgent one", 113, "[x for x in list_invoices if x.urgent][0].id"),
        ("Remind of the invoice of 80.5", 112, "[x for x in list_invoices if x.amount == inputs.amount][0].id"),
        ("Remind of the invoice over 100", 111, "[x for x in list_invoices if x.amount > inputs.amount][0].id"),
        ("Remind of invoice 112", 112, "inputs.invoice_id"),
    ],
)  # fmt: skip
def test_an_element_is_chosen_for_a_reason(task, chosen, code):
    """By a superlative of the task, by a field that equals a word of it, by a comparison, by a flag; by its number only at last."""
    found = learned(chat(task, LISTED, ("remind", {"invoice_id": chosen}, "ok")))
    assert args_of(found, "remind") == {"invoice_id": f"${{{code}}}"}


def test_an_element_without_a_reason_is_told():
    """A position in the middle of a list is no reason: the plan has it, and the report says that a model may have chosen."""
    rows = [{"id": 100 + n, "note": f"row {n} {'xyz'[n % 3]}"} for n in range(5)]
    found = learned(
        chat(
            "Remind of the best",
            ("list_invoices", {"customer_id": 77}, rows),
            ("remind", {"invoice_id": 102}, "ok"),
        )
    )
    assert args_of(found, "remind")["invoice_id"] == "${list_invoices[2].id}"
    assert "a model may have chosen it" in remarks_of(found, "ambiguous")[0]


@pytest.mark.parametrize(
    ("task", "chosen", "template"),
    [
        ("Remind of all invoices", [111, 112, 113], "${list_invoices}"),
        ("Remind of those that are open", [111, 113], "${[x for x in list_invoices if x.status == inputs.status]}"),
        ("Remind of those over 50", [111, 112], "${[x for x in list_invoices if x.amount > inputs.amount]}"),
        ("Remind of the 2 smallest", [113, 112], "${sorted(list_invoices, key=lambda x: x.amount)[:inputs.count]}"),
    ],
)  # fmt: skip
def test_calls_that_walk_a_list_are_a_loop(task, chosen, template):
    """A step with `for_each` over the list, or over the part of it that a condition gives; in the order of the calls."""
    found = learned(chat(task, LISTED, *(("remind", {"invoice_id": each}, "ok") for each in chosen)))
    step = steps_of(found)["remind"]
    source = steps_of(found).get("remind_items", {"set": step["for_each"]})["set"]
    assert source == template
    assert step["args"] == {"invoice_id": "${item.id}"}


def test_calls_that_no_list_explains_stay_steps():
    """Cities that the task names are an input each."""
    turn = [("weather", {"city": city}, {"celsius": n}) for n, city in enumerate(("Rome", "Oslo"))]
    found = learned(
        chat("Compare Rome and Oslo", turn, answer="Of the two cities Oslo is the warmer one today.")
    )
    assert [step["args"] for step in steps_of(found).values() if "tool" in step] == [
        {"city": "${inputs.city}"},
        {"city": "${inputs.city_2}"},
    ]


def test_texts_of_a_loop_are_asked_for_each_item():
    """What a model wrote for each element is a question for each element, with the type of the parameter."""
    texts = ["Dear ACME, please pay 120 euros soon.", "Dear ACME, kindly settle your 42 euros."]
    calls = [
        ("remind", {"invoice_id": each, "text": text}, "ok")
        for each, text in zip((111, 113), texts, strict=True)
    ]
    found = learned(chat("Write a friendly reminder for each that is open", LISTED, calls))
    steps = steps_of(found)
    assert steps["remind"]["args"] == {"invoice_id": "${item.id}", "text": "${remind_text[index]}"}
    assert steps["remind_text"]["for_each"] == steps["remind"]["for_each"] == "${remind_items}"
    assert found.rehearsals[0].asked == 2


def test_a_loop_over_the_results_of_a_loop():
    """Reads walk a list, writes walk the reads, and a sum is over both."""
    reads = [
        ("get_invoice", {"invoice_id": each["id"]}, {"total": each["amount"], "ref": f"R{each['id']}"})
        for each in INVOICES
    ]
    found = learned(
        chat(
            "Pay everything",
            LISTED,
            reads,
            *(("pay", {"amount": each["amount"], "reference": f"R{each['id']}"}, {}) for each in INVOICES),
        )
    )
    assert steps_of(found)["get_invoice"]["for_each"] == "${list_invoices}"
    assert steps_of(found)["pay"]["for_each"] == "${get_invoice}"
    assert args_of(found, "pay") == {"amount": "${item.total}", "reference": "${item.ref}"}


@pytest.mark.parametrize(
    ("result", "argument", "template"),
    [
        ({"a": 120.25, "b": 30.5}, 150.75, "${find_customer.a + find_customer.b}"),
        ({"a": 120.25, "b": 3}, 360.75, "${find_customer.a * find_customer.b}"),
        ({"rows": [{"price": 10.5, "count": 3}, {"price": 2.25, "count": 4}]}, 40.5, "${sum(x.price * x.count for x in find_customer.rows)}"),
        ({"rows": [33.25, 44.5]}, 77.75, "${sum(find_customer.rows)}"),
        ({"text": "120.25"}, 120.25, "${float(find_customer.text)}"),
    ],
)  # fmt: skip
def test_numbers_are_computed(result, argument, template):
    """Sums, products, sums of products, numbers of texts."""
    found = learned(
        chat("Pay ACME", ("find_customer", {"name": "ACME"}, result), ("pay", {"amount": argument}, {}))
    )
    assert args_of(found, "pay")["amount"] == template


@pytest.mark.parametrize(
    ("result", "argument", "template"),
    [
        ({"mail": "Ann@Example.org"}, "ann@example.org", "${find_customer.mail.lower()}"),
        ({"at": "2026-03-04T10:00:00Z"}, "2026-03-04", "${find_customer.at[:10]}"),
        ({"mail": "ann.lee@example.org"}, "ann.lee", '${find_customer.mail.split("@")[0]}'),
        ({"number": 4711}, "4711", "${str(find_customer.number)}"),
        ({"number": 4711}, "No 4711", "No ${find_customer.number}"),
        ({"price": 1234.5}, "Due: $1,234.50", 'Due: ${"$"}${format(find_customer.price, ",.2f")}'),
        ({"odd name": "X-99"}, "X-99", '${find_customer["odd name"]}'),
        ({"text": "a ${x} b"}, "a ${x} b", "${find_customer.text}"),
    ],
)  # fmt: skip
def test_texts_are_computed(result, argument, template):
    """Other capitals, the date of a time, a part, a number as text, a template, fields with any name."""
    found = learned(
        chat(
            "Pay ACME",
            ("find_customer", {"name": "ACME"}, result),
            ("pay", {"amount": 1.5, "reference": argument}, {}),
        )
    )
    assert args_of(found, "pay")["reference"] == template


def test_a_constant_with_an_expression_in_it_stays_text():
    """`${` in a constant is no template of the plan."""
    found = learned(chat("Pay", ("pay", {"amount": 1.5, "reference": "${inputs}"}, {})))
    assert args_of(found, "pay")["reference"] == "$${inputs}"


def test_small_numbers_refer_only_where_the_names_agree():
    """A 3 among results explains no other 3, but the `id` of a customer is the `customer_id`."""
    found = learned(
        chat(
            "List",
            ("find_customer", {"name": "ACME"}, {"id": 3, "visits": 5}),
            ("list_invoices", {"customer_id": 3, "limit": 5}, []),
            answer="none at all in the books",
        )
    )
    assert args_of(found, "list_invoices") == {"customer_id": "${find_customer.id}", "limit": 5}
    assert remarks_of(found, "unexplained") == [
        'find_customer.name: "ACME": nothing in the trace says where it came from; it stays a constant',
        "list_invoices.limit: 5: nothing in the trace says where it came from; it stays a constant",
    ]


def test_of_several_explanations_the_report_names_the_others():
    """One value in two places: the first that fits by name is taken, the other is named."""
    found = learned(
        chat(
            "Remind ACME",
            ("find_customer", {"name": "ACME"}, {"invoice_id": 4711, "last": 4711}),
            ("remind", {"invoice_id": 4711}, "ok"),
        )
    )
    assert args_of(found, "remind")["invoice_id"] == "${find_customer.invoice_id}"
    (said,) = remarks_of(found, "ambiguous")
    assert "or ${find_customer.last}" in said


def test_what_failed_or_was_for_nothing_is_left_out_and_told():
    """Failed calls, retries, invalid arguments and reads that nothing used are not in the plan."""
    found = learned(
        chat(
            "Remind ACME",
            ("find_customer", {"name": "ACME"}, "Error: timeout"),
            ("find_customer", '{"name": "ACME"', "Error: bad arguments"),
            ("find_customer", {"name": "ACME"}, {"id": 4711}),
            ("weather", {"city": "Oslo"}, {"celsius": 3}),
            ("remind", {"invoice_id": 9}, {"error": "no such invoice"}),
            ("remind", {"invoice_id": 4711}, "ok"),
        )
    )
    assert list(steps_of(found)) == ["find_customer", "remind"]
    assert [each.split(": ", 2)[2].split(";")[0] for each in remarks_of(found, "failed")] == [
        "the call of 'find_customer' failed: Error: timeout",
        "the call of 'find_customer' has arguments that are no JSON: not JSON: Expecting ',' delimiter at line 1, column 16",
        'the call of \'remind\' failed: {"error": "no such invoice"}',
    ]
    assert len(remarks_of(found, "dropped")) == 1


def test_a_write_without_a_result_is_in_the_plan():
    """A trace that ends in a call may have taken effect: the plan makes it, and the report says that its result is unknown."""
    messages = chat("Remind of 4711", ("remind", {"invoice_id": 4711}, "ok"))[:-1]
    found = learned(messages)
    assert list(steps_of(found)) == ["remind"]
    assert "has no result in the trace" in remarks_of(found, "trace")[0]


def test_writes_on_different_resources_keep_their_order():
    """The effect order leaves them free; `after` does not."""
    found = learned(
        chat(
            "Pay 12.5 and remind 4711", ("pay", {"amount": 12.5}, {}), ("remind", {"invoice_id": 4711}, "ok")
        )
    )
    assert steps_of(found)["remind"]["after"] == ["pay"]
    together = learned(
        chat(
            "Pay 12.5 and remind 4711",
            [("pay", {"amount": 12.5}, {}), ("remind", {"invoice_id": 4711}, "ok")],
        )
    )
    assert "after" not in steps_of(together)["remind"]


def test_results_are_read_by_the_type_of_the_tool():
    """Text stays text where the tool returns text; Python's `str` of a list is a list."""

    @tool(effect="read")
    def code_of(name: str) -> str:
        """Return a code."""

    rows = "[{'id': 4711, 'ok': True, 'none': None}]"
    found = learned(
        chat(
            "Remind ACME",
            ("code_of", {"name": "ACME"}, "0123"),
            ("list_invoices", {"customer_id": 77}, rows),
            ("remind", {"invoice_id": 4711, "text": "0123"}, "ok"),
        ),
        tools=[*TOOLS, code_of],
    )
    assert args_of(found, "remind") == {"invoice_id": "${list_invoices[0].id}", "text": "${code_of}"}


@tool(effect="write", resource="api")
def send(api_key: str, url: str = "", headers: dict[str, str] | None = None) -> str:
    """Send something."""


SECRETS = ("sk-abcdefghijklmnop1234", "hunter22", "Bearer abcdefghijklmnop12345678", "AKIAABCDEFGHIJKLMNOP")


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_stand_nowhere(secret):
    """Not in the plan, not in the report, not in its JSON; the plan names them, and the rehearsal gives them to the call."""
    task = f"Send it with the key {secret} please"
    messages = chat(
        task,
        ("send", {"api_key": secret, "headers": {"authorization": secret}}, "ok"),
        answer=f"I sent it with {secret} to the place.",
    )
    found = learned(messages, tools=[send])
    assert found.ok
    assert args_of(found, "send")["api_key"] == '${secret("API_KEY")}'
    assert args_of(found, "send")["headers"] == {"authorization": "${inputs.api_key}"}
    assert "default" not in found.plan.inputs["api_key"]
    assert secret not in found.plan.to_json()
    assert secret not in str(found) + json.dumps(found.to_dict()) + repr(found.remarks) + repr(found.origins)
    assert remarks_of(found, "secret")


@tool(effect="write", resource="api")
def configure(
    client_id: str = "",
    clientSecret: str = "",  # noqa: N803  # as other languages write it
    text: str = "",
    headers: dict[str, str] | None = None,
) -> str:
    """Configure something."""


@tool(effect="read", resource="accounts")
def accounts() -> list[dict]:
    """List the accounts."""


@tool(effect="write", resource="account")
def renew(id: int) -> str:  # noqa: A002  # the plan's word
    """Renew an account."""


NAMED = "hunter22isnoword"
ROWS = [{"id": 1, "token": "aaaa1111"}, {"id": 2, "token": NAMED}, {"id": 3, "token": NAMED}]


@pytest.mark.parametrize(
    "calls",
    [
        [("configure", {"clientSecret": NAMED}, "ok")],
        [("configure", {"headers": {"secret_key": NAMED}}, "ok")],
        [("configure", {"clientSecret": NAMED, "text": f"use {NAMED} now"}, "ok")],
        [
            ("configure", {"text": f"use {NAMED} now"}, "ok"),
            ("configure", {"clientSecret": NAMED, "client_id": "a"}, "ok"),
        ],
        [("accounts", {}, ROWS), ("renew", {"id": 2}, "ok"), ("renew", {"id": 3}, "ok")],
    ],
    ids=["camel case", "secret key", "again in a text", "first in a text", "condition"],
)
def test_what_is_a_secret_at_one_place_is_one_everywhere(calls):
    """In other texts, in conditions on lists, and under names in the spelling of other languages."""
    found = learned(chat("Do it", *calls, answer="done"), tools=[configure, accounts, renew])
    assert found.ok
    assert NAMED not in found.plan.to_json() + str(found) + json.dumps(found.to_dict()) + repr(found.origins)


def test_numbers_of_tokens_and_cursors_are_no_secrets():
    found = learned(
        chat("Do it", ("configure", {"headers": {"nextPageToken": "page2of9", "maxTokens": "many"}}, "ok")),
        tools=[configure],
    )
    assert args_of(found, "configure")["headers"] == {"nextPageToken": "page2of9", "maxTokens": "many"}


def test_a_plan_that_would_hold_a_secret_is_not_learnt():
    """A key of an object can be no template."""
    with pytest.raises(InputRejected, match="would hold one of the trace") as refused:
        learn_from_trace(
            chat("Do it", ("configure", {"headers": {"sk-abcdefghijklmnop1234": "x"}}, "ok")),
            [configure],
        )
    assert "sk-abc" not in str(refused.value)


def test_secrets_in_text_make_no_template():
    """A URL with a key in it is a secret as a whole."""
    key = "AIzaSyA1234567890abcdefghijklmnopqrstu"
    found = learned(
        chat("Send to Oslo", ("send", {"api_key": "none", "url": f"https://x.example/Oslo?key={key}"}, "ok")),
        tools=[send],
    )
    assert key not in found.plan.to_json() + str(found)


def test_several_traces_tell_constants_from_inputs():
    """What all tasks name and never changes is a constant; what changes is an input; fixed words around values are a template."""

    def one(city, celsius):
        text = f"Good morning, the weather in {city} will be {celsius} degrees, says your service"
        return chat(
            f"Mail ann@example.org the weather in {city}",
            ("weather", {"city": city}, {"celsius": celsius}),
            ("send_mail", {"to": "ann@example.org", "subject": "Weather", "body": text}, "ok"),
        )

    found = learned(one("Rome", 21.5), one("Oslo", 3.25))
    assert len(found.rehearsals) == 2
    assert args_of(found, "send_mail") == {
        "to": "ann@example.org",
        "subject": "Weather",
        "body": "Good morning, the weather in ${inputs.city} will be ${weather.celsius} degrees, says your service",
    }
    assert found.plan.task == "Mail ann@example.org the weather in {city}"
    alone = learned(one("Rome", 21.5))
    assert args_of(alone, "send_mail")["to"] == "${inputs.to}"
    assert args_of(alone, "send_mail")["body"] == "${send_mail_body}"


def test_loops_of_different_lengths_are_one_loop():
    """Traces whose lists have one, two and three elements."""
    traces = [
        chat(f"Remind customer {number}", ("list_invoices", {"customer_id": number}, INVOICES[:count]), [("remind", {"invoice_id": each["id"]}, "ok") for each in INVOICES[:count]])
        for number, count in ((771, 2), (772, 1), (773, 3))
    ]  # fmt: skip
    found = learned(*traces)
    assert steps_of(found)["remind"]["for_each"] == "${list_invoices}"
    assert args_of(found, "list_invoices") == {"customer_id": "${inputs.customer_id}"}


def test_a_trace_of_other_steps_is_left_out():
    """Traces have to make the same calls; one that does not is named."""
    one = chat("Remind of 4711", ("remind", {"invoice_id": 4711}, "ok"))
    other = chat("Remind of 4712", ("pay", {"amount": 1.5}, {}), ("remind", {"invoice_id": 4712}, "ok"))
    found = learned(one, other)
    assert len(found.rehearsals) == 1
    assert "found others (pay, remind)" in remarks_of(found, "left-out")[0]
    more = chat(
        "Remind of 4711 and 4713",
        ("remind", {"invoice_id": 4711}, "ok"),
        ("remind", {"invoice_id": 4713}, "ok"),
    )
    with pytest.raises(InputRejected, match="in different numbers"):
        learned(one, more)


def test_a_large_result_takes_no_long_look():
    """Ten thousand rows: the value is found by its field, and only a bounded part is looked through."""
    rows = [{"id": 100_000 + n, "name": f"Customer {n}", "tags": ["a", f"t{n}"]} for n in range(10_000)]
    found = learned(
        chat(
            "Remind Customer 123",
            ("list_invoices", {"customer_id": 77}, rows),
            ("remind", {"invoice_id": 100_123}, "ok"),
        )
    )
    assert (
        args_of(found, "remind")["invoice_id"]
        == "${[x for x in list_invoices if x.name == inputs.name][0].id}"
    )


def test_tools_that_are_called_in_turn_are_a_loop_each():
    """Read, write, read, write: two loops if the order between them is free."""
    turns = [
        turn
        for each in INVOICES
        for turn in (
            (
                "get_invoice",
                {"invoice_id": each["id"]},
                {"total": each["amount"] + 1, "ref": f"R-{each['id']}"},
            ),
            ("pay", {"amount": each["amount"] + 1, "reference": f"R-{each['id']}"}, {"ok": True}),
        )
    ]
    found = learned(chat("Pay all", LISTED, *turns))
    assert [steps_of(found)[name]["for_each"] for name in ("get_invoice", "pay")] == [
        "${list_invoices}",
        "${get_invoice}",
    ]


def test_tools_in_turn_whose_order_matters_are_an_inner_plan():
    """`remind` writes what `get_invoice` reads: each element is read and then written, as in the trace, with what the outer plan knows."""

    def trace(text):
        turns = [
            turn
            for each in (INVOICES[0], INVOICES[2])
            for turn in (
                ("get_invoice", {"invoice_id": each["id"]}, {"text": f"Due {each['amount']}"}),
                ("remind", {"invoice_id": each["id"], "text": text(each)}, "ok"),
            )
        ]
        return chat(
            "Remind ACME of what is open",
            ("find_customer", {"name": "ACME"}, {"id": 77, "mail": "a@b.org"}),
            LISTED,
            *turns,
        )

    found = learned(trace(lambda each: f"Due {each['amount']} to a@b.org"))
    assert found.ok
    assert list(steps_of(found)) == ["find_customer", "list_invoices", "each_remind_items", "each_remind"]
    assert steps_of(found)["each_remind"]["args"] == {
        "element": "${item}",
        "find_customer": "${find_customer}",
    }
    assert [step["args"] for step in found.plan.to_dict()["plans"]["each_remind"]["steps"]] == [
        {"invoice_id": "${inputs.element.id}"},
        {"invoice_id": "${inputs.element.id}", "text": "${get_invoice.text} to ${inputs.find_customer.mail}"},
    ]
    asked = learned(
        trace(
            lambda each: (
                f"Please pay invoice {each['id']} {'soon' if each['id'] == 111 else 'at once, dear customer'}"
            )
        )
    )
    assert asked.ok
    assert asked.rehearsals[0].asked == 2


def test_tools_in_turn_over_no_list_stay_steps():
    """What the task names one by one is no list that was known."""
    turns = [
        turn
        for number in (4711, 4712)
        for turn in (
            ("get_invoice", {"invoice_id": number}, {"text": f"T{number}"}),
            ("remind", {"invoice_id": number, "text": f"T{number}"}, "ok"),
        )
    ]
    found = learned(chat("Remind of 4711 and 4712", *turns))
    assert [step["tool"] for step in found.plan.to_dict()["steps"]] == ["get_invoice", "remind"] * 2
    assert args_of(found, "remind_2") == {
        "invoice_id": "${inputs.invoice_id_2}",
        "text": "${get_invoice_2.text}",
    }


def test_an_argument_that_only_some_traces_give_has_its_default_in_the_others():
    """`status` is left out in one trace; without a default the traces do not agree."""
    one = chat(
        "List 771",
        ("list_invoices", {"customer_id": 771, "status": "open"}, []),
        answer="none of them at all",
    )
    other = chat("List 772", ("list_invoices", {"customer_id": 772}, []), answer="none of them at all")
    found = learned(one, other)
    assert args_of(found, "list_invoices")["customer_id"] == "${inputs.customer_id}"
    with pytest.raises(InputRejected, match="with and without the argument 'vip'"):
        learned(
            chat("Find A1", ("find_customer", {"name": "A1"}, {"id": 4711})),
            chat("Find A2", ("find_customer", {"name": "A2", "vip": 1}, {"id": 4711})),
        )


def test_words_of_a_task_are_text_in_a_prompt():
    """Dollar signs and braces in the user's words are no template; the inputs among them are."""
    task = "Tell Bob of the $120 for ${inputs.x} and {braces}, {name}"
    body = "Dear Bob, there is something that we would like to tell you about."
    found = learned(
        chat(
            task,
            ("pay", {"amount": 120.0, "reference": "Bob"}, {}),
            ("send_mail", {"to": "Bob", "subject": "Hi", "body": body}, "ok"),
        )
    )
    assert found.ok
    (asked,) = [step for step in found.plan.to_dict()["steps"] if "ask" in step]
    assert (
        'Tell ${inputs.reference} of the ${"$"}${inputs.amount} for $${inputs.x} and {braces}, {name}'
        in asked["ask"]["prompt"]
    )


@pytest.mark.parametrize("name", ["Mail.sendNow", "len", "item", "class", "a-b"])
def test_tools_with_names_that_are_no_ids(name):
    """Names of tools that cannot be ids of steps, and names of arguments that cannot be inputs."""
    messages = chat(
        "Do it for Bob and Ann",
        (name, {"for-whom": "Bob", "len": "Ann"}, {"item": {"class": "X-991"}}),
        ("find_customer", {"name": "X-991"}, {"id": 4711}),
    )
    found = learn_from_trace([*messages, {"role": "assistant", "content": "4711"}], TOOLS)
    assert found.rehearsals[0].ok, str(found)
    assert {each.code for each in found.report.errors} == {"unknown-tool"}


def test_what_equal_traces_share_is_constant_and_words_are_no_results():
    """The same trace twice: its inputs are constants everywhere, and `sent` in a sentence is not the result `sent`."""
    messages = chat(
        "Mail ann@example.org the code of Rome",
        ("find_customer", {"name": "Rome"}, {"code": "X-4711"}),
        ("send_mail", {"to": "ann@example.org", "subject": "Code X-4711", "body": "x"}, "sent"),
        answer="I sent the code X-4711 to ann@example.org for you.",
    )
    found = learned(messages, messages)
    assert found.plan.inputs == {}
    assert found.plan.output == "I sent the code ${find_customer.code} to ann@example.org for you."
    assert found.plan.task == "Mail ann@example.org the code of Rome"
