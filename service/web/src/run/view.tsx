// One run: its head, what waits for a person, and its steps.
import type { JSX } from "preact";
import { useEffect, useMemo } from "preact/hooks";
import { DecisionsPanel } from "../decisions/panel";
import { StepDrawer } from "../drawer/view";
import { address, href, setQuery } from "../router";
import { RunStore } from "../store/run";
import { titleOf } from "../runs/list";
import { Button, Tabs } from "../ui/controls";
import { Previews } from "../ui/preview";
import { StatusBadge } from "../ui/status";
import { count, Text } from "../ui/text";
import { Ago, dollars, duration } from "../ui/time";
import { JsonTree } from "../ui/tree";
import { Timeline } from "../timeline/view";
import { RunActions } from "./actions";
import { RunGraph } from "./graph";
import { StepTable } from "./steps";

const TABS = [
  ["graph", "Graph"],
  ["decisions", "Decisions"],
  ["steps", "Steps"],
  ["output", "Output"],
  ["plan", "Plan"],
] as const;
type Tab = (typeof TABS)[number][0];

export function RunView({ id }: { id: string }): JSX.Element {
  const store = useMemo(() => new RunStore(id), [id]);
  useEffect(() => {
    void store.start();
    return () => store.stop();
  }, [store]);
  const tab = (TABS.find(([name]) => name === address.value.query.get("tab"))?.[0] ?? "graph") as Tab;
  if (store.error.value) {
    return (
      <main class="page" id="main">
        <h1>No such run</h1>
        <p class="warning" role="alert">
          <Text of={store.error.value.message} />
        </p>
        <a href={href(["runs"])}>All runs</a>
      </main>
    );
  }
  return (
    <main class="page run" id="main">
      <RunHeader store={store} />
      <CallsForYou store={store} isShown={tab === "decisions"} />
      <Tabs label="Views of the run" tabs={TABS} chosen={tab} panelId="run-panel" onChoose={(name) => setQuery({ tab: name }, true)} />
      <section id="run-panel" role="tabpanel" aria-labelledby={`run-panel-tab-${tab}`} tabIndex={0}>
        {tab === "graph" ? <Work store={store} /> : tab === "decisions" ? <DecisionsPanel store={store} /> : tab === "steps" ? <StepTable store={store} /> : tab === "output" ? <Output store={store} /> : <Plan store={store} />}
      </section>
    </main>
  );
}

/** Says that calls wait for a person, wherever in the run one looks. */
function CallsForYou({ store, isShown }: { store: RunStore; isShown: boolean }): JSX.Element | null {
  const waiting = store.waitingPaths.value.length;
  const isAsked = Boolean(store.head.value?.question);
  if ((waiting === 0 && !isAsked) || isShown) return null;
  return (
    <div class="calls-for-you">
      <span>{isAsked ? "The planner asks a question" : `${count(waiting, "call")} waiting for a person`}</span>
      <Button look="primary" onClick={() => setQuery({ tab: "decisions" })}>
        Decide
      </Button>
    </div>
  );
}

/** Graph and timeline, and beside them the chosen step. */
function Work({ store }: { store: RunStore }): JSX.Element {
  const path = address.value.query.get("step");
  const choose = useMemo(() => (next: string) => setQuery({ step: next }), []);
  const close = (): void => {
    const before = address.peek().query.get("step");
    setQuery({ step: null, part: null });
    if (before !== null) focusNode(before);
  };
  return (
    <div class="work">
      <div class="work-main">
        <RunGraph store={store} onSelect={choose} />
        <Timeline store={store} onSelect={choose} />
      </div>
      {path === null ? null : <StepDrawer store={store} path={path} onClose={close} />}
    </div>
  );
}

function focusNode(path: string): void {
  document.querySelector<HTMLElement>(`.node[data-step="${CSS.escape(path)}"] .node-main`)?.focus();
}

function RunHeader({ store }: { store: RunStore }): JSX.Element {
  const run = store.head.value;
  if (run === null) return <h1>{store.id}</h1>;
  const { calls = 0, reused = 0, usd = 0, seconds = 0 } = run.usage as Record<string, number>;
  return (
    <header class="run-header">
      <h1>
        <Text of={titleOf(run)} />
      </h1>
      <div class="row">
        <StatusBadge status={run.status} note={run.abandoned ? "(abandoned)" : undefined} />
        <code>{run.id}</code>
        <span class="soft">
          <Ago at={run.created} /> · {count(calls, "call")}, {reused} reused · {duration(seconds)}
          {usd ? ` · ${dollars(usd)}` : ""}
        </span>
        {run.parent === null ? null : (
          <span>
            from <a href={href(["runs", run.parent])}>{run.parent}</a>
          </span>
        )}
        <span class="grow" />
        <RunActions store={store} />
      </div>
      {run.abandoned ? <p class="warning">The process that drove this run is gone.</p> : null}
      {run.errors.map((error, at) => (
        <p class="problem" key={at}>
          {error.step ? (
            <a href={href(["runs", store.id], { step: error.step })}>
              <Text of={error.step} />
            </a>
          ) : (
            "the run"
          )}
          : <Text of={error.message} /> <code>{error.code}</code>
        </p>
      ))}
    </header>
  );
}

function Output({ store }: { store: RunStore }): JSX.Element {
  const run = store.head.value;
  if (run === null) return <p class="empty">…</p>;
  return (
    <>
      {Object.entries(run.output_labels).map(([place, names]) => (
        <p class="outside" key={place}>
          <Text of={`${place === "$" ? "The output" : place} was made with content from ${names.join(", ")}`} />
        </p>
      ))}
      {run.status === "succeeded" ? (
        <>
          <Previews run={run.id} value={run.output} />
          <JsonTree value={run.output} name={`${run.id}-output`} label="the output" />
        </>
      ) : (<p class="empty">No output yet.</p>
      )}
      {run.digest ? <p class="soft">digest {run.digest}</p> : null}
    </>
  );
}

function Plan({ store }: { store: RunStore }): JSX.Element {
  const plan = store.plan.value;
  return plan === null ? <p class="empty">No plan yet.</p> : <JsonTree value={plan} name={`${store.id}-plan`} label="the plan" />;
}
