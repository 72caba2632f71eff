// A task in words: its plan grows while a model writes it, then comes its check, and nothing runs until somebody says so.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { post, request } from "../api/client";
import type { JsonObject, Report, Run } from "../api/types";
import { address, go, href } from "../router";
import { barredFrom } from "../store/person";
import { attempt, Button, say } from "../ui/controls";
import { Text } from "../ui/text";
import { JsonTree } from "../ui/tree";
import { Opens } from "../decisions/ask";
import { SchemaForm } from "../forms/form";
import { parseExact } from "../api/json";
import { CheckResult } from "./check";
import { PlanPreview } from "./preview";
import { StartPlan } from "./start";

interface Planned {
  plan: JsonObject;
  report: Report | null;
}

export function TaskView(): JSX.Element {
  const [task, setTask] = useState(address.value.query.get("words") ?? "");
  const [planned, setPlanned] = useState<Planned | null>(null);
  const [why, setWhy] = useState("");
  const [isPlanning, setPlanning] = useState(false);
  const stop = useRef<AbortController | null>(null);
  const barred = barredFrom("submit");
  useEffect(() => () => stop.current?.abort(), []);

  async function plan(): Promise<void> {
    stop.current?.abort();
    const mine = (stop.current = new AbortController());
    setPlanned(null);
    setWhy("");
    setPlanning(true);
    try {
      for await (const { name, document } of planning(task, mine.signal)) {
        if (name === "problem") setWhy(String(document.detail));
        else setPlanned({ plan: document.plan as JsonObject, report: name === "plan" ? (document.report as unknown as Report) : null });
      }
    } catch (error) {
      if (!mine.signal.aborted) setWhy((error as Error).message);
    } finally {
      if (stop.current === mine) setPlanning(false);
    }
  }
  useEffect(() => {
    if (task && barred === null) void plan();
  }, []);
  return (
    <main class="page" id="main">
      <h1>Plan a task</h1>
      <form
        class="new-task"
        onSubmit={(event) => {
          event.preventDefault();
          void plan();
        }}
      >
        <input aria-label="A task in words" placeholder="A task in words" required value={task} onInput={(event) => setTask(event.currentTarget.value)} />
        <Button look="primary" type="submit" disabled={isPlanning} barred={barred}>
          Plan it
        </Button>
        {isPlanning ? <Button onClick={() => stop.current?.abort()}>Stop</Button> : null}
      </form>
      <p role="status" class="soft">
        {isPlanning ? (planned ? "The plan is being written. Nothing runs." : "The planner is at work. Nothing runs.") : ""}
      </p>
      {why ? (
        <div class="problem" role="alert">
          <Text of={why} />
          <div class="row">
            <Button barred={barred} onClick={() => void attempt(async () => go(["runs", (await post<Run>("v1/tasks", { task })).id]))}>Run the task all the same: questions are answered there</Button>
          </div>
        </div>
      ) : null}
      {planned === null ? null : (
        <>
          {planned.report === null ? null : (
            <>
              <CheckResult report={planned.report} />
              <section class="start-plan" aria-label="Run the plan">
                <StartPlan key={JSON.stringify(planned.plan)} plan={planned.plan} body={{ plan: planned.plan }} />
                <SavePlan plan={planned.plan} />
              </section>
            </>
          )}
          <PlanPreview plan={planned.plan} />
          <details>
            <summary>The plan as JSON</summary>
            <JsonTree value={planned.plan} name="plan" label="the plan" />
          </details>
        </>
      )}
    </main>
  );
}

function SavePlan({ plan }: { plan: JsonObject }): JSX.Element {
  return (
    <div class="row">
      <Opens label="Save this plan" barred={barredFrom("submit")} title="Save the plan under a name">
        {(close) => (
          <SchemaForm
            schema={{ type: "object", properties: { name: { type: "string", pattern: "^[A-Za-z_][A-Za-z0-9._-]*$" } }, required: ["name"] }}
            label="The name"
            submit="Save"
            place="$"
            onSubmit={async (value) => {
              const { name } = parseExact(value.source) as { name: string };
              await request("PUT", `v1/plans/${encodeURIComponent(name)}`, { body: { plan }, headers: { "If-None-Match": "*" } });
              close();
              say(`The plan is saved as ${name}`);
              location.hash = href(["plans", name]);
            }}
          />
        )}
      </Opens>
    </div>
  );
}

/** The events of a planning. Raises: Problem: the server refuses the request. */
async function* planning(task: string, signal: AbortSignal): AsyncGenerator<{ name: string; document: JsonObject }> {
  const answer = await request("POST", "v1/tasks:plan", { body: { task, stream: true }, signal });
  const reader = answer.body!.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let isSettled = false;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    rest += decoder.decode(value, { stream: true });
    const blocks = rest.split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (name === undefined || data === undefined) continue;
      isSettled ||= name !== "draft";
      yield { name, document: parseExact(data) as JsonObject };
    }
  }
  if (!isSettled) throw new Error("The server ended the planning without a plan; its log may say why.");
}
