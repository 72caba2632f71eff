// What an event says about the state of its step, before the server is asked: so that the page moves with the journal.
//
// The server's view of a step stays the authority: `RunStore` reads it when a stream pauses, and this reducer need not know every rule of
// the executor (a skipped branch, a failed part that `on_error` replaces).
import type { Json, RunEvent, Step } from "../api/types";

export const NO_STEP: Step = {
  status: "pending",
  output: null,
  attempts: 0,
  reused: false,
  cost: 0,
  started: null,
  finished: null,
  error: null,
  reason: null,
  output_digest: null,
  args: null,
  attempt: null,
  decision: null,
  past_write: null,
  guards: null,
  until: null,
};

/** The step after an event of its own; the same object if the event changes nothing of it. */
export function stepAfter(step: Step, event: RunEvent): Step {
  const { data, at } = event;
  switch (event.type) {
    case "CallStarted":
      return { ...step, ...started(step, at), status: "running", attempts: number(data.attempt, step.attempts + 1), ...decided };
    case "CallSucceeded":
      return { ...step, ...ended(step, at), status: "succeeded", output: data.output ?? null };
    case "CallMade":
      return {
        ...step,
        status: "succeeded",
        output: data.output ?? null,
        attempts: number(data.attempt, step.attempts + 1),
        started: step.started ?? number(data.started, at),
        finished: at,
      };
    case "CallReused":
      return { ...step, status: "succeeded", output: data.output ?? null, reused: true, started: step.started ?? at, finished: at };
    case "CallFailed":
      return { ...step, error: errorOf(event) };
    case "RetryScheduled":
      return { ...step, status: "running" };
    case "WaitBegun":
      return { ...step, status: "waiting", reason: "timer", started: step.started ?? at, until: number(data.until, at) };
    case "WaitEnded":
      return { ...step, reason: null };
    case "ApprovalAsked":
      return { ...step, status: "waiting", reason: "approval", args: data.args ?? null, attempt: step.attempt ?? step.attempts + 1 };
    case "ApprovalVoided":
      // The attempt that a person decides about anew; the request for approval follows, and keeps it.
      return { ...step, attempt: number(data.attempt, step.attempts + 2) };
    case "Approved":
    case "Denied":
    case "Answered":
      return { ...step, ...decided };
    case "StepSucceeded":
      return { ...step, ...ended(step, at), status: "succeeded" };
    case "StepFailed":
      return { ...step, ...ended(step, at), status: "failed", error: errorOf(event) };
    case "StepSkipped":
      return { ...step, status: "skipped", reason: text(data.reason), finished: at };
    case "StepCancelled":
      return { ...step, status: "cancelled", reason: text(data.reason), finished: at };
    case "StepIndeterminate":
      return { ...step, status: "indeterminate" };
    default:
      return step;
  }
}

const decided = { args: null, attempt: null, reason: null };

function started(step: Step, at: number): Pick<Step, "started"> {
  return { started: step.started ?? at };
}

function ended(step: Step, at: number): Pick<Step, "started" | "finished"> {
  return { started: step.started ?? at, finished: at };
}

function errorOf(event: RunEvent): Step["error"] {
  const { code, message, temporary } = event.data;
  return { step: event.step, code: text(code) ?? "", message: text(message) ?? "", temporary: temporary === true };
}

function number(value: Json | undefined, otherwise: number): number {
  return typeof value === "number" ? value : otherwise;
}

function text(value: Json | undefined): string | null {
  return typeof value === "string" ? value : null;
}
