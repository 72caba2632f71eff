// What a step did when, from its events: waited for a person, was called, paused before another call.
import type { RunEvent } from "../api/types";

export type SpanKind = "running" | "failed" | "succeeded" | "reused" | "waiting" | "pause";

export interface Span {
  kind: SpanKind;
  start: number;
  /** `null`: it goes on. */
  end: number | null;
  /** Of a call: which attempt. */
  attempt: number | null;
  note: string;
}

/** The spans of one step, item or iteration, the earliest first. */
export function spansOf(events: readonly RunEvent[]): Span[] {
  const spans: Span[] = [];
  let attempt = 0;
  const open = (kind: SpanKind, at: number, note = ""): void => {
    close(at);
    spans.push({ kind, start: at, end: null, attempt: kind === "running" ? attempt : null, note });
  };
  const close = (at: number, kind?: SpanKind, note?: string): void => {
    const last = spans.at(-1);
    if (!last || last.end !== null) return;
    last.end = at;
    if (kind) last.kind = kind;
    if (note) last.note = note;
  };
  for (const { type, at, data } of events) {
    switch (type) {
      case "CallStarted":
        attempt = Number(data.attempt ?? attempt + 1);
        open("running", at);
        break;
      case "CallMade":
        attempt = Number(data.attempt ?? attempt + 1);
        spans.push({ kind: "succeeded", start: Number(data.started ?? at), end: at, attempt, note: "" });
        break;
      case "CallReused":
        close(at);
        spans.push({ kind: "reused", start: at, end: at, attempt: null, note: `from ${String(data.source)}` });
        break;
      case "CallSucceeded":
        close(at, "succeeded");
        break;
      case "CallFailed":
        close(at, "failed", String(data.message ?? ""));
        break;
      case "CallLost":
        close(at, "failed", String(data.why ?? "the outcome is unknown"));
        break;
      case "RetryScheduled":
        open("pause", at, `another call in ${String(data.delay_s)} s`);
        break;
      case "WaitBegun":
        open("waiting", at, "waits for a time");
        break;
      case "WaitEnded":
        close(at);
        spans.push({ kind: "succeeded", start: at, end: at, attempt: null, note: "" });
        break;
      case "ApprovalAsked":
        open("waiting", at, "waits for a person");
        break;
      case "StepIndeterminate":
        open("waiting", at, "the outcome is unknown: a person has to decide");
        break;
      case "StepSucceeded":
        // A computed value: no call, only the moment.
        if (spans.length === 0) spans.push({ kind: "succeeded", start: at, end: at, attempt: null, note: "" });
        break;
      case "Approved":
      case "Denied":
      case "Answered":
      case "ResolvedDone":
      case "ResolvedRetry":
      case "ResolvedFailed":
      case "QuestionExpired":
      case "ApprovalExpired":
      case "StepCancelled":
      case "StepSkipped":
        close(at);
        break;
    }
  }
  return spans;
}
