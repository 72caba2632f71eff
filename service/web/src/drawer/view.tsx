// One step, in full: what it called, what came of it, each attempt, why it ran or was reused, and its records in the journal.
import { computed, type ReadonlySignal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, runPath } from "../api/client";
import type { CallDetails, Explanation, Step } from "../api/types";
import { href, setQuery, address } from "../router";
import { barredFrom } from "../store/person";
import type { RunStore } from "../store/run";
import { Button, copyText, Tabs } from "../ui/controls";
import { useKeys } from "../ui/keys";
import { StatusBadge } from "../ui/status";
import { Text } from "../ui/text";
import { dollars, duration } from "../ui/time";
import { Attempts } from "./attempts";
import { Call } from "./call";
import { Journal } from "./journal";
import { Log } from "./log";
import { Output } from "./output";
import { Why } from "./why";

const TABS = [
  ["call", "Call"],
  ["output", "Output"],
  ["attempts", "Attempts"],
  ["log", "Log"],
  ["why", "Why"],
  ["journal", "Journal"],
] as const;
export type DrawerTab = (typeof TABS)[number][0];

/** Until when a step waits, if its wait has an end. */
function waitOf(step: Step): string | null {
  if (step.status !== "waiting" || step.until === null) return null;
  const until = `until ${new Date(step.until * 1000).toLocaleString()}`;
  return step.reason === "timer" ? until : `${step.reason}, ${until}`;
}

export function StepDrawer({ store, path, onClose }: { store: RunStore; path: string; onClose: () => void }): JSX.Element {
  const step = store.step(path).value;
  const box = useRef<HTMLElement>(null);
  const tab = (TABS.find(([id]) => id === address.value.query.get("part"))?.[0] ?? "call") as DrawerTab;
  // What the server is asked again: when the step has moved on, not at every event of the run.
  const stage = useMemo(() => computed(() => stageOf(store, path)), [store, path]);
  const details = useFetched<CallDetails>(store, path, "call", stage);
  const explained = useFetched<{ steps: Explanation[] }>(store, path, "explain", stage);
  useKeys([{ keys: "Escape", what: "Close the step", run: onClose }]);
  useEffect(() => {
    box.current?.querySelector<HTMLElement>("h2")?.focus();
  }, [path]);
  const call = details?.call ?? null;
  return (
    <aside class="drawer" aria-labelledby="drawer-title" ref={box} data-step={path}>
      <header>
        <div class="row">
          <h2 id="drawer-title" tabIndex={-1}>
            <Text of={path} />
          </h2>
          <span class="grow" />
          <Button look="quiet" onClick={() => copyText(new URL(href(["runs", store.id], { step: path }), location.href).href)}>
            Copy link
          </Button>
          <Button look="quiet" aria-label="Close the step" onClick={onClose}>
            ✕
          </Button>
        </div>
        <div class="row">
          <StatusBadge status={step.status} note={step.reused ? "(reused)" : waitOf(step) ?? step.reason ?? undefined} />
          {call ? (
            <>
              <code>
                <Text of={call.tool} />
              </code>
              <span class={`effect is-${call.effect}`}>
                {call.effect}
                {["read", "write"].includes(call.effect) ? <Text of={` on ${call.resource}`} /> : null}
              </span>
            </>
          ) : null}
          <span class="soft">
            {step.started !== null && step.finished !== null ? duration(step.finished - step.started) : ""}
            {step.cost ? ` · ${dollars(step.cost)}` : ""}
          </span>
        </div>
        {step.error ? (
          <>
            <p class="problem">
              <Text of={step.error.message} /> <code>{step.error.code}</code>
            </p>
            {barredFrom("admin") === null ? <Traceback run={store.id} path={path} /> : null}
          </>
        ) : null}
      </header>
      <Tabs label="Parts of the step" tabs={TABS} chosen={tab} panelId="drawer-panel" onChoose={(part) => setQuery({ part }, true)} />
      <section id="drawer-panel" role="tabpanel" aria-labelledby={`drawer-panel-tab-${tab}`} tabIndex={0}>
        {tab === "call" ? (
          <Call details={details} step={step} />
        ) : tab === "output" ? (
          <Output store={store} path={path} step={step} call={call} />
        ) : tab === "attempts" ? (
          <Attempts store={store} path={path} />
        ) : tab === "log" ? (
          <Log store={store} path={path} />
        ) : tab === "why" ? (
          <Why explained={explained?.steps[0] ?? null} />
        ) : (
          <Journal store={store} path={path} />
        )}
      </section>
    </aside>
  );
}

/** The last frames of the failure in the code of its tool, asked for when they are unfolded: no other answer of the server has them. */
function Traceback({ run, path }: { run: string; path: string }): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  const [frames, setFrames] = useState<string | null>(null);
  useEffect(() => {
    setFrames(null);
    if (!isOpen) return;
    const stop = new AbortController();
    get<{ tracebacks: Record<string, string> }>(runPath(run, "tracebacks"), stop.signal)
      .then((answer) => setFrames(answer.tracebacks[path] ?? "No frames are on record: it did not fail in the code of a tool."))
      .catch((error: unknown) => {
        if (!stop.signal.aborted) setFrames(error instanceof Error ? error.message : String(error));
      });
    return () => stop.abort();
  }, [run, path, isOpen]);
  return (
    <details class="traceback" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>Traceback</summary>
      <pre>{frames === null ? "…" : <Text of={frames} />}</pre>
    </details>
  );
}

function stageOf(store: RunStore, path: string): string {
  const { status, attempts, reused, finished } = store.step(path).value;
  return `${status} ${attempts} ${reused} ${finished}`;
}

/** The answer about a step; the former one stays until a newer one is there, so that nothing flickers or folds. */
function useFetched<T>(store: RunStore, path: string, what: string, stage: ReadonlySignal<string>): T | null {
  const [found, setFound] = useState<{ path: string; answer: T } | null>(null);
  const at = stage.value;
  useEffect(() => {
    const stop = new AbortController();
    get<T>(`${runPath(store.id, what)}?${new URLSearchParams({ step: path })}`, stop.signal)
      .then((answer) => setFound({ path, answer }))
      .catch(() => undefined);
    return () => stop.abort();
  }, [store, path, what, at]);
  return found?.path === path ? found.answer : null;
}
