// What can be done with a run: all of it stands here, and nowhere else.
import type { JSX } from "preact";
import { post, request, runPath } from "../api/client";
import { ExactJson, parseExact } from "../api/json";
import type { JsonObject, Run } from "../api/types";
import { Opens } from "../decisions/ask";
import { SchemaForm } from "../forms/form";
import { isObject } from "../forms/shape";
import { go } from "../router";
import { barredFrom } from "../store/person";
import { isEnded, type RunStore } from "../store/run";
import { attempt, Button, download, say } from "../ui/controls";

export function RunActions({ store }: { store: RunStore }): JSX.Element | null {
  const run = store.head.value;
  if (run === null) return null;
  const act = (verb: string): void =>
    void attempt(async () => {
      await post(runPath(store.id, verb));
      await store.read();
    });
  const isOver = isEnded(run.status);
  const barred = barredFrom("submit");
  return (
    <>
      {run.abandoned || run.status === "parked" || run.status === "over_budget" ? <Button barred={barred} onClick={() => act("resume")}>Resume</Button> : null}
      {run.status === "failed" || run.status === "cancelled" ? (
        <Button barred={barred} onClick={() => void attempt(async () => go(["runs", (await post<Run>(runPath(store.id, "retry"))).id]))}>Retry</Button>
      ) : null}
      {isOver ? <Button onClick={() => void attempt(() => replay(store.id))}>Replay</Button> : null}
      {store.plan.value === null ? null : <Fork store={store} />}
      <Compare id={store.id} parent={run.parent} />
      {store.plan.value === null ? null : <Button onClick={() => void attempt(() => save(store.id))}>Export</Button>}
      {isOver ? null : (
        <Button look="danger" barred={barred} onClick={() => act("cancel")}>
          Cancel
        </Button>
      )}
    </>
  );
}

/** Raises: Problem: the replay differs from the recording. */
async function replay(id: string): Promise<void> {
  const run = await post<Run>(runPath(id, "replay"));
  say(`The replay gave the same: ${run.digest}. Nothing was called.`);
}

async function save(id: string): Promise<void> {
  download(`${id}.bundle`, await (await request("GET", runPath(id, "export"))).blob());
}

/** Run again what a change affects, as a new run: a step anew, another value for a step, other inputs. */
function Fork({ store }: { store: RunStore }): JSX.Element {
  return (
    <Opens label="Fork" barred={barredFrom("submit")} title="Run again what a change affects, as a new run">
      {() => {
        const paths = store.paths.peek();
        const inputs = (store.plan.peek()?.inputs ?? {}) as JsonObject;
        const given = store.head.peek()!.inputs;
        const schema: JsonObject = {
          type: "object",
          properties: {
            at: { title: "Run this step again", enum: [...paths] },
            set: {
              title: "Give a step another value",
              type: "object",
              properties: { step: { enum: [...paths] }, value: { description: "The value in the place of what it gave" } },
              required: ["step", "value"],
            },
            ...(Object.keys(inputs).length ? { inputs: { title: "Other inputs", type: "object", properties: inputs, required: Object.keys(given) } } : {}),
            allow_writes: { title: "Make the writes that the change affects without asking", type: "boolean", default: false },
          },
          required: ["allow_writes"],
        };
        return (
          <SchemaForm
            schema={schema}
            root={store.plan.peek() ?? schema}
            label="What differs"
            submit="Fork"
            place="$"
            onSubmit={async (value) => {
              const { set, ...rest } = parseExact(value.source) as JsonObject;
              const other = isObject(set) ? { set: { [String(set.step)]: set.value } } : {};
              go(["runs", (await post<Run>(runPath(store.id, "fork"), { ...rest, ...other })).id]);
            }}
          />
        );
      }}
    </Opens>
  );
}

function Compare({ id, parent }: { id: string; parent: string | null }): JSX.Element {
  return (
    <Opens label="Compare" title="Compare with another run">
      {(close) => (
        <SchemaForm
          schema={{ type: "object", properties: { run: { title: "The other run", type: "string", ...(parent === null ? {} : { default: parent }) } }, required: ["run"] }}
          label="The other run"
          submit="Compare"
          place="$"
          onSubmit={async (value: ExactJson) => {
            const { run } = JSON.parse(value.source) as { run: string };
            close();
            go(["compare", run.trim(), id]);
          }}
        />
      )}
    </Opens>
  );
}
