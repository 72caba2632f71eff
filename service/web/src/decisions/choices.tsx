// What a person can do about one call that waits.
import type { JSX } from "preact";
import { ExactJson, jsonText, parseExact } from "../api/json";
import type { Json, JsonObject, WaitingCall } from "../api/types";
import { SchemaForm } from "../forms/form";
import { barredFrom, barredFromApproving } from "../store/person";
import { Button } from "../ui/controls";
import { Ask, Opens } from "./ask";

/** Send a decision about the call; raises what the server refuses. */
export type Decide = (verb: string, body: object) => Promise<void>;

interface ChoicesProps {
  call: WaitingCall;
  /** Who submitted the run. */
  submitter: string | null;
  decide: Decide;
  /** As `decide`, for buttons: a refusal is shown as a message. */
  press: Decide;
}

export function Choices({ call, submitter, decide, press }: ChoicesProps): JSX.Element {
  const barred = barredFrom("approve");
  const approving = barredFromApproving(submitter);
  const deny = <Ask label="Deny" verb="deny" barred={barred} question={`Why is step ${call.step} denied?`} onAnswer={(reason) => void press("deny", { reason })} />;
  switch (call.about) {
    case "call":
      return (
        <>
          <Button look="primary" data-verb="approve" barred={approving} onClick={() => void press("approve", {})}>
            {call.tool === "endorse" ? "Endorse" : "Approve"}
          </Button>
          <Edit call={call} barred={approving} decide={decide} />
          {deny}
        </>
      );
    case "question":
      return (
        <SchemaForm schema={call.returns ?? {}} label="Your answer" submit="Answer" place="$.value" barred={barred} onSubmit={(value) => decide("answer", { value })}>
          {deny}
        </SchemaForm>
      );
    case "outcome":
      return (
        <>
          <Opens label="It did" verb="approve" barred={barred} title={`What did the call of step ${call.step} return?`}>
            {(close) => (
              <SchemaForm
                schema={call.result ?? {}}
                label="The result"
                submit="Record it"
                place="$.done"
                onSubmit={async (done) => {
                  await decide("resolve", { done });
                  close();
                }}
              />
            )}
          </Opens>
          <Button data-verb="edit" barred={barred} onClick={() => void press("resolve", { retry: true })}>
            It did not: call again
          </Button>
          <Button data-verb="deny" barred={barred} onClick={() => void press("resolve", { fail: "a person says that it did nothing" })}>
            It did not: fail
          </Button>
        </>
      );
  }
}

/** Other arguments in the place of those that are shown, or another value to endorse. */
function Edit({ call, barred, decide }: { call: WaitingCall; barred: string | null; decide: Decide }): JSX.Element | null {
  const schema = argumentsSchema(call);
  if (schema === null) return null;
  const given = Object.fromEntries(call.args.filter((each) => each.secret === null).map((each) => [each.name, each.value]));
  return (
    <Opens label="Edit" verb="edit" barred={barred} title={`Other arguments for step ${call.step}`}>
      {(close) => (
        <SchemaForm
          schema={schema}
          root={call.returns ?? schema}
          given={given}
          label="The arguments"
          submit={call.tool === "endorse" ? "Endorse this value" : "Approve with these arguments"}
          place="$.edit"
          onSubmit={async (value) => {
            await decide("approve", changed(value, given));
            close();
          }}
        />
      )}
    </Opens>
  );
}

/** The schema of what can be edited: never a secret, whose value nobody here knows. `null`: nothing. */
function argumentsSchema(call: WaitingCall): JsonObject | null {
  if (call.tool === "endorse" && call.returns !== null) return { type: "object", properties: { value: call.returns }, required: ["value"] };
  if (call.parameters === null) return null;
  const secrets = call.args.filter((each) => each.secret !== null).map((each) => each.name);
  const { properties, required, ...rest } = call.parameters;
  const left = Object.entries((properties ?? {}) as JsonObject).filter(([name]) => !secrets.includes(name));
  const wanted = Array.isArray(required) ? required.filter((name) => !secrets.includes(String(name))) : [];
  return { ...rest, properties: Object.fromEntries(left), required: wanted };
}

/** The arguments that differ: what is left as it is stays exactly what was shown. */
function changed(value: ExactJson, given: JsonObject): { edit?: JsonObject } {
  const edit = Object.fromEntries(
    Object.entries(parseExact(value.source) as JsonObject).filter(([name, each]) => !Object.hasOwn(given, name) || jsonText(each) !== jsonText(given[name])),
  );
  return Object.keys(edit).length ? { edit: edit as { [key: string]: Json } } : {};
}
