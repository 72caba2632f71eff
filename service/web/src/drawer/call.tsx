// The call of a step: every argument as it was sent, with its origin; of a model step the prompt and the answer.
import type { JSX } from "preact";
import type { CallDetails, Step } from "../api/types";
import { ArgumentFact, OriginLine } from "../decisions/call";
import { Text } from "../ui/text";
import { dollars } from "../ui/time";
import { JsonTree } from "../ui/tree";

export function Call({ details, step }: { details: CallDetails | null; step: Step }): JSX.Element {
  if (details === null) return <p class="empty">…</p>;
  const { call, usage } = details;
  if (call === null) {
    return <p class="empty">{step.attempts > 1 ? "This step stands for several calls: choose one of its parts." : "This step has made no call."}</p>;
  }
  const isModel = call.effect === "model";
  return (
    <div class="drawer-part">
      {call.why ? (
        <p>
          <span class="soft">The plan says: </span>
          <Text of={call.why} />
        </p>
      ) : null}
      {call.description ? (
        <p class="soft">
          <Text of={call.description} />
        </p>
      ) : null}
      {call.is_controlled ? (
        <div class="warning">
          Data from outside decided whether, or how often, this call is made{call.controlled_by.length ? ":" : "."}
          {call.controlled_by.map((from) => (
            <OriginLine key={from.source} from={from} />
          ))}
        </div>
      ) : null}
      <h3>{isModel ? "Prompt" : "Arguments"}</h3>
      {call.args.length === 0 ? <p class="soft">none</p> : null}
      <dl class="facts is-stacked">
        {call.args.map((argument) => (
          <ArgumentFact key={argument.name} argument={argument} />
        ))}
      </dl>
      {isModel && step.status === "succeeded" ? (
        <>
          <h3>Answer</h3>
          <JsonTree value={step.output} name="answer" label="the answer" />
        </>
      ) : null}
      {usage ? (
        <>
          <h3>Usage</h3>
          <dl class="facts">
            {Object.entries(usage).map(([name, amount]) => (
              <div class="fact" key={name}>
                <dt>
                  <Text of={name.replaceAll("_", " ")} />
                </dt>
                <dd>
                  {name === "usd" && typeof amount === "number" ? dollars(amount) : <Text of={typeof amount === "string" ? amount : JSON.stringify(amount)} />}
                </dd>
              </div>
            ))}
          </dl>
        </>
      ) : null}
    </div>
  );
}
