// What came of a step.
import type { JSX } from "preact";
import type { Step, WaitingCall } from "../api/types";
import type { RunStore } from "../store/run";
import { Previews } from "../ui/preview";
import { Text } from "../ui/text";
import { JsonTree } from "../ui/tree";

export function Output(props: { store: RunStore; path: string; step: Step; call: WaitingCall | null }): JSX.Element {
  const { store, path, step } = props;
  const warnings = store.head.value?.warnings.filter((warning) => warning.step === path) ?? [];
  return (
    <div class="drawer-part">
      {warnings.map((warning, at) => (
        <p class="warning" key={at}>
          <Text of={warning.message} /> <code>{warning.code}</code>
        </p>
      ))}
      {step.status === "succeeded" ? (
        <>
          <Previews run={store.id} value={step.output} />
          <JsonTree value={step.output} name={`${store.id}-${path.replaceAll(/[^\w.-]+/g, "_")}`} label={`the output of ${path}`} />
          {step.output_digest ? <p class="soft digest">{step.output_digest}</p> : null}
        </>
      ) : (
        <p class="empty">{step.error ? "The step failed: it has no output." : "No output yet."}</p>
      )}
      {step.guards ? (
        <>
          <h3>Guards</h3>
          <JsonTree value={step.guards} name="guards" label="the verdicts of the guards" />
        </>
      ) : null}
    </div>
  );
}
