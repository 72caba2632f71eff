// A run's journal as it grows: server-sent events, read with fetch, because the browser's EventSource cannot send the header Authorization.
import { runPath, Problem, request } from "./client";
import type { RunEvent } from "./types";

const PAUSE_MS_MIN = 500;
const PAUSE_MS_MAX = 5_000;

export type Connection = "connecting" | "live" | "quiet" | "lost" | "ended";

export interface Follower {
  /** Called with all events of one piece of the stream, in their order. */
  onEvents(events: RunEvent[]): void;
  onConnection(connection: Connection): void;
  /** Called when the stream ended: whether more comes soon (a task that is being planned has no events), perhaps (the run waits), or not at all. */
  onPause(): Promise<"soon" | "more" | "ended">;
}

/**
 * Follow a run's journal past event number `after`, until it has ended or `signal` aborts.
 *
 * The stream ends while a run waits for a person, so it is asked for again, always past the last event that was seen: no event is missed,
 * and none comes twice. Pauses grow while nothing happens or the server is away.
 */
export async function follow(id: string, after: number, follower: Follower, signal: AbortSignal): Promise<void> {
  let seen = after;
  let pause = PAUSE_MS_MIN;
  while (!signal.aborted) {
    try {
      follower.onConnection("connecting");
      const headers = { Accept: "text/event-stream", "Last-Event-ID": String(seen) };
      const answer = await request("GET", runPath(id, "events"), { headers, signal });
      if (answer.status === 204 || answer.body === null) {
        follower.onConnection("ended");
        return;
      }
      follower.onConnection("live");
      for await (const events of pieces(answer.body)) {
        const fresh = events.filter((event) => event.seq > seen);
        const last = fresh.at(-1);
        if (last === undefined) continue;
        seen = last.seq;
        pause = PAUSE_MS_MIN;
        follower.onEvents(fresh);
      }
      const next = await follower.onPause();
      if (next === "ended") {
        follower.onConnection("ended");
        return;
      }
      if (next === "soon") pause = PAUSE_MS_MIN;
      follower.onConnection("quiet");
    } catch (error) {
      if (signal.aborted) return;
      follower.onConnection("lost");
      // A wrong key or a missing run does not come right by asking again.
      if (error instanceof Problem && [401, 403, 404].includes(error.status)) return;
    }
    await sleep(pause, signal);
    pause = Math.min(pause * 1.5, PAUSE_MS_MAX);
  }
}

async function* pieces(body: ReadableStream<Uint8Array>): AsyncGenerator<RunEvent[]> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop() ?? "";
      const events = blocks.flatMap(eventIn);
      if (events.length > 0) yield events;
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

function eventIn(block: string): RunEvent[] {
  const data = block.split("\n").filter((line) => line.startsWith("data: "));
  return data.length ? [JSON.parse(data.map((line) => line.slice(6)).join("\n")) as RunEvent] : [];
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
