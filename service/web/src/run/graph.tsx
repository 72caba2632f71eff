// The graph of a run, with its tools: direction, folding, the critical path, finding a step.
import { computed, signal, type Signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { get, runPath } from "../api/client";
import { PlanGraph } from "../graph/view";
import { partsOf } from "../graph/tree";
import type { GraphSource } from "../graph/source";
import type { PlanGraph as Graph } from "../graph/types";
import { address } from "../router";
import { parentOf } from "../store/paths";
import type { RunStore } from "../store/run";
import { attempt, Button, say } from "../ui/controls";
import { useKeys } from "../ui/keys";
import { criticalPath } from "./critical";

/** Levels with at most this many parts are opened by themselves, as long as the run has few steps. */
const OPEN_PARTS_MAX = 8;
const OPEN_PATHS_MAX = 24;

export function RunGraph({ store, onSelect }: { store: RunStore; onSelect: (path: string) => void }): JSX.Element {
  const [graph, setGraph] = useState<Graph | null>(null);
  const planDigest = store.head.value?.plan_digest;
  useEffect(() => {
    if (planDigest) void attempt(async () => setGraph(await get<Graph>(runPath(store.id, "graph"))));
  }, [store, planDigest]);
  if (graph === null) return <p class="empty">{planDigest ? "…" : "There is no plan yet: the planner is at work."}</p>;
  return <Shown key={planDigest} store={store} graph={graph} onSelect={onSelect} />;
}

const direction = signal<"TB" | "LR">("TB");
const showsCritical = signal(false);

function Shown({ store, graph, onSelect }: { store: RunStore; graph: Graph; onSelect: (path: string) => void }): JSX.Element {
  const opened = useMemo(() => signal<ReadonlySet<string>>(firstOpened(store)), [store]);
  const source = useMemo(() => sourceOf(store, graph, opened, onSelect), [store, graph, opened, onSelect]);
  const chosen = source.selected.value;
  useEffect(() => {
    // A step that is chosen elsewhere is shown: what it is part of is opened.
    if (chosen === null) return;
    const next = new Set(opened.peek());
    for (let outer = parentOf(chosen); outer !== null; outer = parentOf(outer)) next.add(outer);
    if (next.size > opened.peek().size) opened.value = next;
  }, [chosen]);
  const every = [...partsOf(store.paths.value).keys()];
  return (
    <div class="graph">
      <div class="graph-tools">
        <FindStep store={store} onFound={onSelect} />
        <Button aria-pressed={showsCritical.value} onClick={() => (showsCritical.value = !showsCritical.value)}>
          Critical path
        </Button>
        <Button onClick={() => (direction.value = direction.value === "TB" ? "LR" : "TB")} aria-label="Turn the graph">
          {direction.value === "TB" ? "↓ Down" : "→ Right"}
        </Button>
        {every.length === 0 ? null : opened.value.size > 0 ? (
          <Button onClick={() => (opened.value = new Set())}>Fold all</Button>
        ) : (
          <Button onClick={() => (opened.value = new Set(every))}>Open all</Button>
        )}
      </div>
      <PlanGraph source={source} direction={direction.value} />
    </div>
  );
}

/** A step by a part of its path: Enter goes to the first, and on to the next. */
function FindStep({ store, onFound }: { store: RunStore; onFound: (path: string) => void }): JSX.Element {
  const box = useRef<HTMLInputElement>(null);
  useKeys([{ keys: "/", what: "Find a step", run: () => box.current?.focus() }]);
  function find(words: string): void {
    const paths = store.paths.peek().filter((path) => path.toLowerCase().includes(words.toLowerCase()));
    const next = paths[(paths.indexOf(address.peek().query.get("step") ?? "") + 1) % paths.length];
    if (words && next !== undefined) onFound(next);
    else if (words) say(`No step has ${words} in its path`);
  }
  return (
    <input
      ref={box}
      type="search"
      aria-label="Find a step"
      placeholder="Find a step"
      onKeyDown={(event) => {
        if (event.key === "Enter") find(event.currentTarget.value.trim());
      }}
    />
  );
}

function firstOpened(store: RunStore): ReadonlySet<string> {
  const paths = store.paths.peek();
  if (paths.length > OPEN_PATHS_MAX) return new Set();
  return new Set([...partsOf(paths)].filter(([, parts]) => parts.length <= OPEN_PARTS_MAX).map(([path]) => path));
}

function sourceOf(store: RunStore, graph: Graph, opened: Signal<ReadonlySet<string>>, onSelect: (path: string) => void): GraphSource {
  // Nobody reads it while the critical path is not shown, so then it costs nothing.
  const critical = computed(() => criticalPath(graph, (path) => store.step(path).value));
  return {
    graph,
    paths: store.paths,
    step: (path) => store.step(path).value,
    events: (path) => store.events(path).value,
    isCritical: (path) => showsCritical.value && critical.value.has(path),
    selected: computed(() => address.value.query.get("step")),
    onSelect,
    opened,
    onToggle(path) {
      const next = new Set(opened.value);
      if (!next.delete(path)) next.add(path);
      opened.value = next;
    },
  };
}
