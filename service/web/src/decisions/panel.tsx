// What waits for a person in one run: the question of its planner, or its calls.
import type { JSX } from "preact";
import { post, runPath } from "../api/client";
import type { Run } from "../api/types";
import { SchemaForm } from "../forms/form";
import type { RunStore } from "../store/run";
import { barredFrom, me, personName, setPersonName } from "../store/person";
import { count, Text } from "../ui/text";
import { by } from "./deciding";
import { useCallKeys, WaitingOfRun } from "./waiting";

export function DecisionsPanel({ store }: { store: RunStore }): JSX.Element | null {
  useCallKeys();
  const question = store.head.value?.question ?? null;
  const paths = store.waitingPaths.value;
  const signature = paths.map((path) => `${path} ${store.step(path).value.attempt}`).join("\n");
  const leaves = paths.filter((path) => store.step(path).value.attempt !== null).length;
  if (question === null && paths.length === 0) return <p class="empty">Nothing waits for a person.</p>;
  return (
    <section class="decisions" aria-labelledby="decisions-title">
      <h2 id="decisions-title">{question === null ? `${count(leaves, "call")} waiting for you` : "The planner asks you"}</h2>
      <PersonName />
      {question === null ? (
        <WaitingOfRun run={store.id} signature={signature} onDecided={() => store.read()} />
      ) : (
        <TaskQuestion run={store.id} question={question} onDecided={() => store.read()} />
      )}
    </section>
  );
}

/** What the planner asks about a task before it plans it. */
export function TaskQuestion(props: { run: string; question: NonNullable<Run["question"]>; onDecided: () => Promise<void> }): JSX.Element {
  return (
    <>
      <pre class="whole" role="group" tabIndex={0} aria-label="the question">
        <Text of={props.question.text} />
      </pre>
      <SchemaForm
        key={props.question.text}
        schema={props.question.returns}
        label="Your answer"
        submit="Answer"
        place="$.value"
        barred={barredFrom("approve")}
        onSubmit={async (value) => {
          await post(runPath(props.run, "answer"), { ...by(), value });
          await props.onDecided();
        }}
      />
    </>
  );
}

/** Who decides: the name of the key, or a field where the key has none. */
export function PersonName(): JSX.Element {
  if (me.value?.name) {
    return (
      <span>
        You decide as{" "}
        <strong>
          <Text of={me.value.name} />
        </strong>
      </span>
    );
  }
  return (
    <label>
      Your name{" "}
      <input
        id="person-name"
        autoComplete="name"
        placeholder="recorded with decisions"
        value={personName.value}
        onChange={(event) => setPersonName(event.currentTarget.value)}
      />
    </label>
  );
}
