// The list of runs, read again every few seconds while somebody looks at it.
import { signal } from "@preact/signals";
import { get } from "../api/client";
import type { RunPage, RunSummary } from "../api/types";

const READ_AGAIN_MS = 4_000;

export class RunsStore {
  readonly runs = signal<RunSummary[] | null>(null);
  readonly cursor = signal<string | null>(null);
  readonly error = signal<Error | null>(null);
  readonly #stop = new AbortController();

  constructor(readonly query: URLSearchParams) {}

  start(): void {
    const again = async (): Promise<void> => {
      if (this.#stop.signal.aborted) return;
      if (!document.hidden) await this.read();
      setTimeout(again, READ_AGAIN_MS);
    };
    void again();
  }

  stop(): void {
    this.#stop.abort();
  }

  async read(): Promise<void> {
    try {
      const page = await get<RunPage>(`v1/runs?${this.query}`, this.#stop.signal);
      if (JSON.stringify(this.runs.peek()) !== JSON.stringify(page.runs)) this.runs.value = page.runs;
      this.cursor.value = page.cursor;
      this.error.value = null;
    } catch (error) {
      if (!this.#stop.signal.aborted) this.error.value = error as Error;
    }
  }
}
