// The status of a run or a step: a word, a shape and a colour, so that no reader depends on the colour.
import type { JSX } from "preact";
import type { RunStatus, StepStatus } from "../api/types";

export type Status = RunStatus | StepStatus;

const WORDS: Record<Status, string> = {
  queued: "queued",
  pending: "pending",
  running: "running",
  waiting: "waiting",
  indeterminate: "outcome unknown",
  over_budget: "over budget",
  parked: "parked",
  succeeded: "succeeded",
  failed: "failed",
  skipped: "skipped",
  cancelled: "cancelled",
};

/** Status -> path of its sign, in a box of 16 by 16. */
const SIGNS: Record<Status, string> = {
  queued: "M8 4.5v3.8l2.4 1.5",
  pending: "M8 8h.01",
  running: "M6.3 5.2 10.7 8l-4.4 2.8z",
  waiting: "M6.3 5.5v5M9.7 5.5v5",
  indeterminate: "M6.2 6.2a1.9 1.9 0 1 1 2.6 1.8c-.6.3-.8.6-.8 1.2M8 11.3h.01",
  over_budget: "M9.9 5.7C9.4 5 8.7 4.8 8 4.8c-1 0-1.9.5-1.9 1.5 0 2.2 3.9 1.1 3.9 3.3 0 1-.9 1.6-2 1.6-.9 0-1.6-.4-2-1.1M8 3.8v8.4",
  parked: "M6.4 11.4V4.8h2.1a1.9 1.9 0 0 1 0 3.8H6.4",
  succeeded: "m4.9 8.2 2.1 2.1 4.1-4.4",
  failed: "m5.6 5.6 4.8 4.8M10.4 5.6l-4.8 4.8",
  skipped: "m5.2 5.2 2.8 2.8-2.8 2.8M8.6 5.2 11.4 8l-2.8 2.8",
  cancelled: "M5 8h6",
};

export function statusWord(status: Status): string {
  return WORDS[status];
}

export function StatusIcon({ status }: { status: Status }): JSX.Element {
  return (
    <svg class={`status-icon is-${status}`} viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
      <circle cx="8" cy="8" r="7" />
      <path d={SIGNS[status]} />
    </svg>
  );
}

export function StatusBadge({ status, note }: { status: Status; note?: string | undefined }): JSX.Element {
  return (
    <span class={`status is-${status}`}>
      <StatusIcon status={status} />
      {WORDS[status]}
      {note ? <span class="status-note"> {note}</span> : null}
    </span>
  );
}
