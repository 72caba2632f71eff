// The list of runs, newest first.
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { post } from "../api/client";
import type { Run, RunSummary } from "../api/types";
import { go, href } from "../router";
import { RunsStore } from "../store/runs";
import { attempt, Button } from "../ui/controls";
import { StatusBadge } from "../ui/status";
import { cut, Text } from "../ui/text";
import { Ago } from "../ui/time";

export function RunsView(): JSX.Element {
  const store = useMemo(() => new RunsStore(new URLSearchParams({ limit: "50" })), []);
  useEffect(() => {
    store.start();
    return () => store.stop();
  }, [store]);
  const runs = store.runs.value;
  return (
    <main class="page" id="main">
      <h1>Runs</h1>
      <NewTask />
      {store.error.value ? (
        <p class="warning" role="alert">
          <Text of={store.error.value.message} />
        </p>
      ) : null}
      {runs === null ? null : runs.length === 0 ? (
        <p class="empty">No runs yet. Submit a task in words above, or a plan with POST /v1/runs.</p>
      ) : (
        <ul class="run-list">
          {runs.map((run) => (
            <RunLine key={run.id} run={run} />
          ))}
        </ul>
      )}
    </main>
  );
}

function RunLine({ run }: { run: RunSummary }): JSX.Element {
  return (
    <li>
      <a class="run-line" href={href(["runs", run.id])}>
        <StatusBadge status={run.status} note={run.abandoned ? "(abandoned)" : undefined} />
        <span class="run-title">
          <Text of={titleOf(run)} />
        </span>
        <span class="soft run-reason">{run.reason ? <Text of={cut(run.reason, 200)} /> : null}</span>
        <code class="soft">{run.id}</code>
        <span class="soft">
          <Ago at={run.created} />
        </span>
      </a>
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
      <Button look="primary" type="submit">
        Run
      </Button>
    </form>
  );
}
