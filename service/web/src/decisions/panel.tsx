// The calls of one run that wait for a person, with the decisions about them.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { getExact, post, runPath } from "../api/client";
import type { ExactJson } from "../api/json";
import type { JsonObject, Run, Waiting, WaitingCall } from "../api/types";
import { SchemaForm } from "../forms/form";
import { personName, setPersonName } from "../store/person";
import type { RunStore } from "../store/run";
import { attempt, Button } from "../ui/controls";
import { Dialog } from "../ui/dialog";
import { count, Text } from "../ui/text";
import { CallCard } from "./call";

type Decide = (path: string, verb: string, call: WaitingCall, body: JsonObject) => void;

export function DecisionsPanel({ store }: { store: RunStore }): JSX.Element {
  const [waiting, setWaiting] = useState<Waiting | null>(null);
  const paths = store.waitingPaths.value.map((path) => `${path} ${store.step(path).value.attempt}`).join("\n");
  useEffect(() => {
    if (!paths) return setWaiting(null);
    const stop = new AbortController();
    void attempt(async () => setWaiting(await getExact<Waiting>(runPath(store.id, "waiting"), stop.signal)));
    return () => stop.abort();
  }, [store, paths]);
  const question = store.head.value?.question ?? null;
  if (question !== null) return <TaskQuestion store={store} question={question} />;
  if (waiting === null || waiting.calls.length === 0) return <p class="empty">Nothing waits for a person.</p>;

  const decide: Decide = (path, verb, call, body) =>
    void attempt(async () => {
      // The decision names the attempt that is shown, so that it does not apply to a later one.
      await post(runPath(store.id, "steps", path, verb), { ...body, ...by(), attempt: call.attempt });
      await store.read();
    });
  const leaves = waiting.calls.filter((call) => call.about === "call");
  const decideAll = (what: JsonObject): void =>
    void attempt(async () => {
      // All decisions are recorded or none: if somebody else has decided one meanwhile, the answer says so.
      const decisions = Object.fromEntries(leaves.map((call) => [call.step, { ...what, attempt: call.attempt }]));
      await post(runPath(store.id, "decide"), { ...by(), decisions });
      await store.read();
    });
  return (
    <section class="decisions" aria-labelledby="decisions-title">
      <h2 id="decisions-title">{count(waiting.calls.length, "call")} waiting for you</h2>
      <div class="row">
        <PersonName />
        {waiting.submitter === null ? null : (
          <span class="soft">
            submitted by <Text of={waiting.submitter} />
          </span>
        )}
        {leaves.length < 2 ? null : (
          <>
            <Button look="primary" onClick={() => decideAll({ approve: true })}>
              Approve all {leaves.length}
            </Button>
            <Ask label={`Deny all ${leaves.length}`} question={`Why are these ${leaves.length} calls denied?`} onAnswer={(reason) => decideAll({ deny: true, reason })} />
          </>
        )}
      </div>
      {waiting.calls.map((call) => (
        <CallCard key={`${call.step} ${call.attempt}`} call={call}>
          <Choices call={call} decide={decide} answer={(value) => answer(store, call, value)} />
        </CallCard>
      ))}
    </section>
  );
}

/** What the planner asks about a task before it plans it. */
function TaskQuestion({ store, question }: { store: RunStore; question: NonNullable<Run["question"]> }): JSX.Element {
  return (
    <section class="decisions" aria-labelledby="decisions-title">
      <h2 id="decisions-title">The planner asks you</h2>
      <PersonName />
      <pre class="whole" tabIndex={0} aria-label="the question">
        <Text of={question.text} />
      </pre>
      <SchemaForm
        key={question.text}
        schema={question.returns}
        label="Your answer"
        submit="Answer"
        place="$.value"
        onSubmit={async (value) => {
          await post(runPath(store.id, "answer"), { ...by(), value });
          await store.read();
        }}
      />
    </section>
  );
}

function PersonName(): JSX.Element {
  return (
    <label>
      Your name{" "}
      <input autoComplete="name" placeholder="recorded with decisions" value={personName.value} onChange={(event) => setPersonName(event.currentTarget.value)} />
    </label>
  );
}

async function answer(store: RunStore, call: WaitingCall, value: ExactJson): Promise<void> {
  await post(runPath(store.id, "steps", call.step, "answer"), { ...by(), value, attempt: call.attempt });
  await store.read();
}

const by = (): JsonObject => (personName.value ? { by: personName.value } : {});

function Choices({ call, decide, answer }: { call: WaitingCall; decide: Decide; answer: (value: ExactJson) => Promise<void> }): JSX.Element {
  const deny = <Ask label="Deny" question={`Why is step ${call.step} denied?`} onAnswer={(reason) => decide(call.step, "deny", call, { reason })} />;
  switch (call.about) {
    case "call":
      return (
        <>
          <Button look="primary" onClick={() => decide(call.step, "approve", call, {})}>
            Approve
          </Button>
          {deny}
        </>
      );
    case "question":
      return (
        <SchemaForm schema={call.returns ?? {}} label="Your answer" submit="Answer" place="$.value" onSubmit={answer}>
          {deny}
        </SchemaForm>
      );
    case "outcome":
      return (
        <>
          <Ask
            label="It did"
            question={`What did the call of step ${call.step} return? As JSON`}
            first="null"
            onAnswer={(text) => void attempt(async () => decide(call.step, "resolve", call, { done: JSON.parse(text) }))}
          />
          <Button onClick={() => decide(call.step, "resolve", call, { retry: true })}>It did not: call again</Button>
          <Button onClick={() => decide(call.step, "resolve", call, { fail: "a person says that it did nothing" })}>It did not: fail</Button>
        </>
      );
  }
}

/** A button that asks for a text first. */
function Ask(props: { label: string; question: string; first?: string; look?: "primary"; onAnswer: (text: string) => void }): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  const [text, setText] = useState(props.first ?? "");
  return (
    <>
      <Button look={props.look ?? "plain"} onClick={() => setOpen(true)}>
        {props.label}
      </Button>
      {isOpen ? (
        <Dialog title={props.label} onClose={() => setOpen(false)}>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              setOpen(false);
              props.onAnswer(text);
            }}
          >
            <label class="field">
              <Text of={props.question} />
              <textarea rows={4} value={text} onInput={(event) => setText(event.currentTarget.value)} />
            </label>
            <div class="row">
              <Button look="primary" type="submit">
                {props.label}
              </Button>
              <Button onClick={() => setOpen(false)}>Not now</Button>
            </div>
          </form>
        </Dialog>
      ) : null}
    </>
  );
}
