// The inbox: everything that waits for a person, over all runs.
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { post, runPath } from "../api/client";
import type { JsonObject, WaitingRun } from "../api/types";
import { SchemaForm } from "../forms/form";
import { href } from "../router";
import { titleOf } from "../runs/list";
import { InboxStore } from "../store/inbox";
import { barredFrom } from "../store/person";
import { attempt, Button } from "../ui/controls";
import { StatusBadge } from "../ui/status";
import { count, Text } from "../ui/text";
import { Ago } from "../ui/time";
import { PersonName, TaskQuestion } from "./panel";
import { useCallKeys, WaitingOfRun } from "./waiting";

export function InboxView(): JSX.Element {
  const store = useMemo(() => new InboxStore(), []);
  useEffect(() => {
    store.start();
    return () => store.stop();
  }, [store]);
  useCallKeys();
  const runs = store.runs.value;
  return (
    <main class="page" id="main">
      <div class="row">
        <h1>Decisions</h1>
        {runs?.length ? (
          <span class="soft" role="status">
            {count(runs.length, "run")}
            {store.hasMore.value ? " or more" : ""} waiting
          </span>
        ) : null}
        <span class="grow" />
        <PersonName />
      </div>
      {store.error.value ? (
        <p class="warning" role="alert">
          <Text of={store.error.value.message} />
        </p>
      ) : null}
      {runs === null ? null : runs.length === 0 ? <p class="empty">Nothing waits for a person.</p> : null}
      {runs?.map((each) => (
        <InboxRun key={each.run.id} waiting={each} onDecided={() => store.read()} />
      ))}
      {store.hasMore.value ? <Button onClick={() => void store.more()}>Show older runs</Button> : null}
    </main>
  );
}

interface InboxRunProps {
  waiting: WaitingRun;
  onDecided: () => Promise<void>;
}

function InboxRun({ waiting, onDecided }: InboxRunProps): JSX.Element {
  const { run, calls } = waiting;
  const section = useRef<HTMLElement>(null);
  const isNear = useNear(section);
  return (
    <section class="decisions" ref={section} aria-label={`Run ${run.id}`}>
      <header class="row">
        <h2>
          <a href={href(["runs", run.id])}>
            <Text of={titleOf(run)} />
          </a>
        </h2>
        <StatusBadge status={run.status} />
        <code class="soft">{run.id}</code>
        <span class="soft">
          <Ago at={run.created} />
          {calls.length > 1 ? ` · ${count(calls.length, "call")}` : ""}
        </span>
      </header>
      {isNear ? <Body waiting={waiting} onDecided={onDecided} /> : <p class="soft">…</p>}
    </section>
  );
}

function Body({ waiting, onDecided }: InboxRunProps): JSX.Element | null {
  const { run, calls, question } = waiting;
  if (question !== null) return <TaskQuestion run={run.id} question={question} onDecided={onDecided} />;
  return (
    <>
      {run.status === "over_budget" ? <RaiseBudget run={run.id} onDecided={onDecided} /> : null}
      {run.status === "parked" ? (
        <div class="row">
          <span>
            <Text of={run.reason ?? "The run lost its process several times."} />
          </span>
          <Button
            barred={barredFrom("submit")}
            onClick={() =>
              void attempt(async () => {
                await post(runPath(run.id, "resume"));
                await onDecided();
              })
            }
          >
            Resume
          </Button>
        </div>
      ) : null}
      {calls.length ? <WaitingOfRun run={run.id} signature={calls.map((call) => `${call.step} ${call.attempt} ${call.about}`).join("\n")} onDecided={onDecided} /> : null}
    </>
  );
}

const BUDGET: JsonObject = {
  type: "object",
  properties: {
    calls: { type: "integer", minimum: 0 },
    model_calls: { type: "integer", minimum: 0, title: "model calls" },
    tokens: { type: "integer", minimum: 0 },
    usd: { type: "number", minimum: 0, title: "US dollars" },
    seconds: { type: "number", minimum: 0 },
    steps: { type: "integer", minimum: 0 },
    items: { type: "integer", minimum: 0 },
  },
};

function RaiseBudget({ run, onDecided }: { run: string; onDecided: () => Promise<void> }): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <div class="row">
        <span>The run has used up its budget.</span>
        <Button aria-expanded={isOpen} barred={barredFrom("submit")} onClick={() => setOpen(!isOpen)}>
          Raise the budget
        </Button>
      </div>
      {isOpen ? (
        <SchemaForm
          schema={BUDGET}
          label="The new limits; what is left out stays as it is"
          submit="Resume with these limits"
          place="$.budget"
          onSubmit={async (budget) => {
            await post(runPath(run, "resume"), { budget });
            await onDecided();
          }}
        />
      ) : null}
    </>
  );
}

/** Whether an element is on the screen or was: what is far below is read when somebody comes near. */
function useNear(element: { current: HTMLElement | null }): boolean {
  const [isNear, setNear] = useState(false);
  useEffect(() => {
    if (isNear || element.current === null) return undefined;
    const observer = new IntersectionObserver((seen) => seen.some((each) => each.isIntersecting) && setNear(true), { rootMargin: "600px" });
    observer.observe(element.current);
    return () => observer.disconnect();
  }, [isNear]);
  return isNear;
}
