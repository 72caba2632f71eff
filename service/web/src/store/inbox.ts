// What waits for a person, over all runs, read again every few seconds while somebody looks at it.
import { signal } from "@preact/signals";
import { get } from "../api/client";
import type { WaitingRun, WaitingRuns } from "../api/types";

const READ_AGAIN_MS = 3_000;
/** Pages that are read at once at most: an empty page with a cursor means that the next may have something. */
const PAGES_MAX = 20;

export class InboxStore {
  readonly runs = signal<readonly WaitingRun[] | null>(null);
  readonly hasMore = signal(false);
  readonly error = signal<Error | null>(null);
  readonly #stop = new AbortController();
  /** As many runs as somebody wants to see. */
  #wanted = 20;

  start(): void {
    const again = async (): Promise<void> => {
      if (this.#stop.signal.aborted) return;
      if (!document.hidden || this.runs.peek() === null) await this.read();
      setTimeout(again, READ_AGAIN_MS);
    };
    void again();
  }

  stop(): void {
    this.#stop.abort();
  }

  async more(): Promise<void> {
    this.#wanted += 20;
    await this.read();
  }

  async read(): Promise<void> {
    try {
      const found: WaitingRun[] = [];
      let cursor: string | null = null;
      for (let page = 0; page < PAGES_MAX; page++) {
        const query: string = new URLSearchParams({ limit: "20", ...(cursor === null ? {} : { cursor }) }).toString();
        const next: WaitingRuns = await get<WaitingRuns>(`v1/waiting?${query}`, this.#stop.signal);
        found.push(...next.runs);
        cursor = next.cursor;
        if (cursor === null || found.length >= this.#wanted) break;
      }
      if (JSON.stringify(this.runs.peek()) !== JSON.stringify(found)) this.runs.value = found;
      this.hasMore.value = cursor !== null;
      this.error.value = null;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.error.value = error as Error;
    }
  }
}
