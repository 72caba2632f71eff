// Starts a plan: a form of its inputs, and a button.
import type { JSX } from "preact";
import { post } from "../api/client";
import type { JsonObject, Run } from "../api/types";
import { SchemaForm } from "../forms/form";
import { go } from "../router";
import { barredFrom } from "../store/person";
import { attempt, Button } from "../ui/controls";
import { hasInputs, inputsSchema } from "./inputs";

/** `body`: names the plan for `POST /v1/runs`, or is it. */
export function StartPlan({ plan, body }: { plan: JsonObject; body: JsonObject }): JSX.Element {
  const start = async (inputs: object): Promise<void> => {
    const run = await post<Run>("v1/runs", { ...body, ...inputs });
    go(["runs", run.id]);
  };
  if (!hasInputs(plan)) {
    return (
      <div class="row">
        <Button look="primary" barred={barredFrom("submit")} onClick={() => void attempt(() => start({}))}>
          Run this plan
        </Button>
        <span class="soft">It takes no inputs.</span>
      </div>
    );
  }
  return <SchemaForm schema={inputsSchema(plan)} root={plan} label="The inputs" submit="Run this plan" place="$.inputs" barred={barredFrom("submit")} onSubmit={(inputs) => start({ inputs })} />;
}
