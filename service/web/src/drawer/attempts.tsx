// Each attempt of a step: when, how long, what came of it; what it said of its progress; what people decided.
import type { JSX } from "preact";
import type { RunEvent } from "../api/types";
import type { RunStore } from "../store/run";
import { spansOf } from "../timeline/spans";
import { Text } from "../ui/text";
import { duration } from "../ui/time";

const DECISIONS: Record<string, string> = {
  Approved: "approved",
  Denied: "denied",
  Answered: "answered",
  ResolvedDone: "said that it took effect",
  ResolvedRetry: "had it called again",
  ResolvedFailed: "said that it did nothing",
};

export function Attempts({ store, path }: { store: RunStore; path: string }): JSX.Element {
  const events = store.events(path).value;
  const spans = spansOf(events);
  const progress = events.filter((event) => event.type === "CallProgressed");
  const decisions = events.filter((event) => event.type in DECISIONS);
  if (spans.length === 0 && decisions.length === 0) return <p class="empty">No attempt: the step has not begun, or stands for its parts.</p>;
  return (
    <div class="drawer-part">
      <ol class="attempts">
        {spans.map((span, at) => (
          <li key={at} class={`attempt is-${span.kind}`}>
            <strong>{span.attempt === null ? span.kind : `Attempt ${span.attempt}`}</strong>
            <span>{span.attempt === null ? "" : span.kind}</span>
            <span class="soft">
              {clock(span.start)} · {span.end === null ? "so far" : duration(span.end - span.start)}
            </span>
            {span.note ? (
              <p>
                <Text of={span.note} />
              </p>
            ) : null}
          </li>
        ))}
      </ol>
      {decisions.length === 0 ? null : (
        <>
          <h3>Decisions</h3>
          <ul>
            {decisions.map((event) => (
              <li key={event.seq}>
                {clock(event.at)} <Text of={`${String(event.data.by ?? "somebody")} ${DECISIONS[event.type]}${because(event)}`} />
              </li>
            ))}
          </ul>
        </>
      )}
      {progress.length === 0 ? null : (
        <>
          <h3>Progress</h3>
          <progress class="wide-progress" max={1} value={Number(progress.at(-1)!.data.fraction)} aria-label={`progress of ${path}`} />
          <ol class="progress-notes">
            {progress.map((event) => (
              <li key={event.seq}>
                <span class="soft">{clock(event.at)}</span> {Math.round(Number(event.data.fraction) * 100)} % <Text of={String(event.data.note ?? "")} />
              </li>
            ))}
          </ol>
        </>
      )}
    </div>
  );
}

function because(event: RunEvent): string {
  const reason = event.data.reason ?? event.data.why;
  return reason ? `: ${String(reason)}` : "";
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString(undefined, { hour12: false }) + `.${String(Math.floor((seconds % 1) * 1000)).padStart(3, "0")}`;
}
