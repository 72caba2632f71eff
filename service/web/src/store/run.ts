// One run, live. Each step has a signal of its own: an event of a step makes only those components render again that read this step.
//
// The run is read once; from there its journal tells what happens. Whenever the stream pauses, and at most every second while it does not, the
// run is read again, and of its steps only those that differ are set: so a rule of the executor that the page does not know cannot mislead it.
import { batch, computed, signal, type ReadonlySignal, type Signal } from "@preact/signals";
import { get, runPath } from "../api/client";
import { follow, type Connection } from "../api/events";
import type { Run, RunEvent, RunStatus, Step } from "../api/types";
import { parentOf } from "./paths";
import { NO_STEP, stepAfter } from "./progress";

export type RunHead = Omit<Run, "steps" | "plan" | "last_event">;

const ENDED: readonly RunStatus[] = ["succeeded", "failed", "cancelled"];
const READ_AGAIN_MS = 1_000;
/** A run that takes long to read is read less often: at most a tenth of the time goes into it. */
const READ_SHARE = 10;

export const isEnded = (status: RunStatus): boolean => ENDED.includes(status);

export class RunStore {
  readonly head = signal<RunHead | null>(null);
  readonly plan = signal<Run["plan"]>(null);
  /** The paths of all steps, items and iterations, in the order of the plan. */
  readonly paths = signal<readonly string[]>([]);
  readonly connection = signal<Connection>("connecting");
  readonly error = signal<Error | null>(null);
  /** The leaves that a person has to decide about. */
  readonly waitingPaths: ReadonlySignal<string[]> = computed(() =>
    this.paths.value.filter((path) => this.step(path).value.attempt !== null || this.step(path).value.status === "indeterminate"),
  );

  readonly #steps = new Map<string, Signal<Step>>();
  readonly #events = new Map<string, Signal<readonly RunEvent[]>>();
  readonly #stop = new AbortController();
  /** The last event of the journal that came. */
  #seen = 0;
  /** The last event that the steps, as they were read, include. */
  #read = 0;
  #readAt = 0;
  #readTook = 0;
  #isDue: ReturnType<typeof setTimeout> | null = null;

  constructor(readonly id: string) {}

  /** The step at a path; a path that is not known yet is a pending step. */
  step(path: string): Signal<Step> {
    return this.#made(this.#steps, path, NO_STEP);
  }

  /** The events of a step, as they come; for the run as a whole the path is empty. */
  events(path: string): Signal<readonly RunEvent[]> {
    return this.#made(this.#events, path, []);
  }

  async start(): Promise<void> {
    try {
      await this.read();
    } catch (error) {
      if (!this.#stop.signal.aborted) this.error.value = error as Error;
      return;
    }
    // From the first event: the timeline and the attempts of a step are in the journal alone.
    await follow(
      this.id,
      0,
      {
        onEvents: (events) => this.#apply(events),
        onConnection: (connection) => (this.connection.value = connection),
        onPause: async () => {
          await this.read();
          const { status } = this.head.peek()!;
          return isEnded(status) ? "ended" : status === "queued" || status === "running" ? "soon" : "more";
        },
      },
      this.#stop.signal,
    );
  }

  stop(): void {
    this.#stop.abort();
    if (this.#isDue !== null) clearTimeout(this.#isDue);
  }

  /** Read the run from the server, and set what differs. */
  async read(): Promise<void> {
    if (this.#isDue !== null) clearTimeout(this.#isDue);
    this.#isDue = null;
    const began = performance.now();
    const run = await get<Run>(runPath(this.id), this.#stop.signal);
    this.#readAt = performance.now();
    this.#readTook = this.#readAt - began;
    this.#set(run);
  }

  #set(run: Run): void {
    const { steps, plan, last_event, ...head } = run;
    batch(() => {
      setIfOther(this.head, head);
      setIfOther(this.plan, plan);
      const paths = Object.keys(steps);
      setIfOther(this.paths, paths);
      // While the journal is ahead of what was read, its events are newer than the steps: the next reading settles it.
      if (last_event < this.#seen) return this.#readSoon();
      this.#read = last_event;
      for (const path of paths) setIfOther(this.step(path), steps[path]!);
      return undefined;
    });
  }

  #apply(events: readonly RunEvent[]): void {
    const fresh = new Map<string, RunEvent[]>();
    for (const event of events) {
      const known = fresh.get(event.step);
      if (known) known.push(event);
      else fresh.set(event.step, [event]);
    }
    batch(() => {
      for (const [path, list] of fresh) {
        const kept = this.events(path);
        kept.value = [...kept.peek(), ...list];
        // What was read already holds the events up to its own last one.
        const news = list.filter((event) => event.seq > this.#read);
        if (path && news.length) this.#advance(path, news);
      }
    });
    this.#seen = Math.max(this.#seen, events.at(-1)?.seq ?? 0);
    if (this.#seen > this.#read) this.#readSoon();
  }

  #advance(path: string, events: readonly RunEvent[]): void {
    const step = this.step(path);
    const next = events.reduce(stepAfter, step.peek());
    setIfOther(step, next);
    // A part that begins shows in the steps that it is part of; how these end, events of their own say.
    if (next.status !== "running") return;
    for (let outer = parentOf(path); outer !== null; outer = parentOf(outer)) {
      const whole = this.step(outer);
      if (whole.peek().status !== "pending") return;
      whole.value = { ...whole.peek(), status: "running", started: whole.peek().started ?? next.started };
    }
  }

  #readSoon(): void {
    if (this.#isDue !== null || this.#stop.signal.aborted) return;
    const wait = Math.max(READ_AGAIN_MS, this.#readTook * READ_SHARE) - (performance.now() - this.#readAt);
    this.#isDue = setTimeout(() => {
      this.#isDue = null;
      this.read().catch(() => undefined);
    }, Math.max(0, wait));
  }

  #made<T>(signals: Map<string, Signal<T>>, path: string, first: T): Signal<T> {
    let found = signals.get(path);
    if (!found) signals.set(path, (found = signal(first)));
    return found;
  }
}

/** Set a signal unless its value says the same: who reads it does not render again. */
function setIfOther<T>(target: Signal<T>, value: T): void {
  if (JSON.stringify(target.peek()) !== JSON.stringify(value)) target.value = value;
}
