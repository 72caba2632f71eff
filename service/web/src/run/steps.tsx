// The steps of a run as a table. Each row reads the signal of its own step alone.
import type { JSX } from "preact";
import { memo } from "preact/compat";
import type { RunStore } from "../store/run";
import type { Step } from "../api/types";
import { StatusBadge } from "../ui/status";
import { cut, rendered, Text } from "../ui/text";
import { duration } from "../ui/time";

const VALUE_CHARACTERS = 300;

export function StepTable({ store }: { store: RunStore }): JSX.Element {
  const paths = store.paths.value;
  if (paths.length === 0) return <p class="empty">No steps yet.</p>;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Steps">
      <table class="steps">
        <thead>
          <tr>
            {["Step", "Status", "Calls", "Time", "Value"].map((name) => (
              <th key={name} scope="col">
                {name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {paths.map((path) => (
            <StepRow key={path} store={store} path={path} />
          ))}
        </tbody>
      </table>
    </div>
  );
}

const StepRow = memo(function StepRow({ store, path }: { store: RunStore; path: string }): JSX.Element {
  const step = store.step(path).value;
  return (
    <tr data-step={path}>
      <th scope="row">
        <Text of={path} />
      </th>
      <td>
        <StatusBadge status={step.status} note={step.reused ? "(reused)" : undefined} />
      </td>
      <td class="calls">{step.attempts}</td>
      <td class="calls">{step.started !== null && step.finished !== null ? duration(step.finished - step.started) : ""}</td>
      <td class="value">
        <Text of={cut(valueOf(step), VALUE_CHARACTERS)} />
      </td>
    </tr>
  );
});

function valueOf(step: Step): string {
  return step.status === "succeeded" ? rendered(step.output) : (step.error?.message ?? step.reason ?? "");
}
