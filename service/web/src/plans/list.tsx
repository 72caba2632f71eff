// The saved plans, and the schedules that run them.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get } from "../api/client";
import type { SavedPlan, SavedPlans } from "../api/types";
import { href } from "../router";
import { attempt } from "../ui/controls";
import { count, Text } from "../ui/text";
import { Schedules } from "./schedules";

export function PlansView(): JSX.Element {
  const [plans, setPlans] = useState<SavedPlan[] | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    void attempt(async () => setPlans((await get<SavedPlans>("v1/plans", stop.signal)).plans));
    return () => stop.abort();
  }, []);
  return (
    <main class="page" id="main">
      <div class="row">
        <h1>Plans</h1>
        <span class="grow" />
        <a class="button" href={href(["task"])}>
          Plan a task
        </a>
      </div>
      {plans === null ? (
        <p class="empty">…</p>
      ) : plans.length === 0 ? (
        <p class="empty">No plan is saved. Plan a task and save its plan, or PUT one to /v1/plans/NAME.</p>
      ) : (
        <ul class="plan-list" aria-label="Saved plans">
          {plans.map((plan) => (
            <li key={plan.name}>
              <a href={href(["plans", plan.name])}>
                <strong>
                  <Text of={plan.name} />
                </strong>
              </a>
              <span class="plan-task">
                <Text of={plan.task ?? ""} />
              </span>
              <span class="soft">
                <Text of={Object.keys(plan.inputs).join(", ") || "no inputs"} />
                {plan.hits ? ` · answered ${count(plan.hits, "task")}` : ""}
              </span>
            </li>
          ))}
        </ul>
      )}
      <Schedules />
    </main>
  );
}
