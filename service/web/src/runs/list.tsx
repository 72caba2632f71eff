// The list of runs, newest first: filtered, in pages, several chosen and cancelled together.
import { signal, type Signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { post, runPath } from "../api/client";
import type { Run, RunSummary } from "../api/types";
import { address, go, href, setQuery } from "../router";
import { barredFrom } from "../store/person";
import { isEnded } from "../store/run";
import { RunsStore } from "../store/runs";
import { attempt, Button, say } from "../ui/controls";
import { Dialog } from "../ui/dialog";
import { StatusBadge } from "../ui/status";
import { count, cut, Text } from "../ui/text";
import { Ago, dollars, duration } from "../ui/time";
import { Filters, filterOf, isFiltered } from "./filters";

export function RunsView(): JSX.Element {
  const { query } = address.value;
  const asked = filterOf(query).toString();
  const store = useMemo(() => new RunsStore(new URLSearchParams(asked)), [asked]);
  const chosen = useMemo(() => signal<ReadonlySet<string>>(new Set()), [asked]);
  useEffect(() => {
    store.start();
    return () => store.stop();
  }, [store]);
  const runs = store.runs.value;
  return (
    <main class="page" id="main">
      <h1>Runs</h1>
      <NewTask />
      <Filters />
      {store.error.value ? (
        <p class="warning" role="alert">
          <Text of={store.error.value.message} />
        </p>
      ) : null}
      <Chosen store={store} chosen={chosen} />
      {runs === null ? (
        <p class="empty">…</p>
      ) : runs.length === 0 ? (
        <p class="empty">{isFiltered(query) ? (store.cursor.value ? "Of the newest 10,000 runs none fits the filter; “Older” searches on." : "No run fits the filter.") : "No runs yet. Submit a task in words above, or a plan with POST /v1/runs."}</p>
      ) : (
        <ul class="run-list" aria-label="Runs">
          {runs.map((run) => (
            <RunLine key={run.id} run={run} chosen={chosen} />
          ))}
        </ul>
      )}
      <nav class="pages" aria-label="Pages">
        {query.get("cursor") ? <Button onClick={() => setQuery({ cursor: null })}>Newest</Button> : null}
        {store.cursor.value ? <Button onClick={() => setQuery({ cursor: store.cursor.value })}>Older</Button> : null}
      </nav>
    </main>
  );
}

/** What can be done with the chosen runs. */
function Chosen({ store, chosen }: { store: RunsStore; chosen: Signal<ReadonlySet<string>> }): JSX.Element | null {
  const [isAsked, setAsked] = useState(false);
  const open = (store.runs.value ?? []).filter((run) => !isEnded(run.status));
  const ids = open.map((run) => run.id).filter((id) => chosen.value.has(id));
  if (open.length === 0) return null;
  async function cancel(): Promise<void> {
    setAsked(false);
    // Each run is asked to stop by itself, so that one that has ended meanwhile keeps none of the others from it.
    const results = await Promise.allSettled(ids.map((id) => post(runPath(id, "cancel"))));
    const failed = results.filter((result) => result.status === "rejected");
    if (failed.length) say(`${failed.length} of ${ids.length} could not be cancelled: ${(failed[0]!.reason as Error).message}`, true);
    else say(`${count(ids.length, "run")} cancelled`);
    chosen.value = new Set();
    await store.read();
  }
  return (
    <div class="row chosen">
      <label>
        <input
          type="checkbox"
          checked={ids.length === open.length}
          ref={(box) => {
            if (box) box.indeterminate = ids.length > 0 && ids.length < open.length;
          }}
          onChange={(event) => (chosen.value = new Set(event.currentTarget.checked ? open.map((run) => run.id) : []))}
        />{" "}
        All {open.length} that have not ended
      </label>
      <Button look="danger" disabled={ids.length === 0} barred={barredFrom("submit")} onClick={() => setAsked(true)}>
        Cancel {ids.length > 0 ? ids.length : ""}
      </Button>
      {isAsked ? (
        <Dialog title={`Cancel ${count(ids.length, "run")}?`} onClose={() => setAsked(false)}>
          <p>No further calls start. Calls under way are finished, and what they wrote stays.</p>
          <div class="row">
            <Button look="danger" onClick={() => void cancel()}>
              Cancel {count(ids.length, "run")}
            </Button>
            <Button onClick={() => setAsked(false)}>Keep them</Button>
          </div>
        </Dialog>
      ) : null}
    </div>
  );
}

function RunLine({ run, chosen }: { run: RunSummary; chosen: Signal<ReadonlySet<string>> }): JSX.Element {
  const title = titleOf(run);
  function choose(isChosen: boolean): void {
    const next = new Set(chosen.value);
    if (isChosen) next.add(run.id);
    else next.delete(run.id);
    chosen.value = next;
  }
  return (
    <li class="run-line">
      {isEnded(run.status) ? (
        <span />
      ) : (
        <input
          type="checkbox"
          aria-label={`Choose ${run.id}`}
          checked={chosen.value.has(run.id)}
          onChange={(event) => choose(event.currentTarget.checked)}
        />
      )}
      <StatusBadge status={run.status} note={run.abandoned ? "(abandoned)" : undefined} />
      <a class="run-title" href={href(["runs", run.id])}>
        <Text of={title} />
        <code class="soft">{run.id}</code>
      </a>
      <span class="soft run-reason">
        {run.parent ? (
          <>
            from <a href={href(["runs", run.parent])}>{run.parent}</a>{" "}
          </>
        ) : null}
        {run.reason ? <Text of={cut(run.reason, 200)} /> : null}
      </span>
      {run.plan_digest ? (
        <a class="soft run-plan" href={href(["runs"], { plan: run.plan_digest })} title="Runs of this plan">
          plan {run.plan_digest.slice(7, 15)}
        </a>
      ) : (
        <span class="soft run-plan">no plan yet</span>
      )}
      <span class="soft run-time">
        {isEnded(run.status) ? duration(run.updated - run.created) : ""}
        {run.usd ? ` · ${dollars(run.usd)}` : ""}
      </span>
      <span class="soft run-age">
        <Ago at={run.created} />
      </span>
    </li>
  );
}

export function titleOf(run: { task: string | null; plan_digest: string | null }): string {
  return run.task ?? `plan ${(run.plan_digest ?? "").slice(0, 19)}`;
}

function NewTask(): JSX.Element {
  const [task, setTask] = useState("");
  return (
    <form
      class="new-task"
      onSubmit={async (event) => {
        event.preventDefault();
        const run = await attempt(() => post<Run>("v1/tasks", { task }));
        if (run) go(["runs", run.id]);
      }}
    >
      <input
        aria-label="A task in words"
        placeholder="A task in words: the planner makes a plan, and it runs"
        required
        value={task}
        onInput={(event) => setTask(event.currentTarget.value)}
      />
      <Button look="primary" type="submit" barred={barredFrom("submit")}>
        Run
      </Button>
      <Button title="Show the plan and its check before anything runs" onClick={() => go(["task"], { words: task })}>
        Plan first
      </Button>
    </form>
  );
}
