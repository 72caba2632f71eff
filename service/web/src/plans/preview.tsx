// The graph of a plan that has not run.
import { computed, signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { post } from "../api/client";
import type { JsonObject } from "../api/types";
import type { GraphSource } from "../graph/source";
import type { PlanGraph as Graph } from "../graph/types";
import { PlanGraph } from "../graph/view";
import { NO_STEP } from "../store/progress";

export function PlanPreview({ plan }: { plan: JsonObject }): JSX.Element {
  const [graph, setGraph] = useState<Graph | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    let isOld = false;
    // Of several plans that come one after the other, the last one is shown; the one before stays until then.
    post<Graph>("v1/plans:graph", { plan }).then(
      (next) => isOld || (setGraph(next), setError("")),
      (failed: Error) => isOld || setError(failed.message),
    );
    return () => void (isOld = true);
  }, [plan]);
  const opened = useMemo(() => signal<ReadonlySet<string>>(new Set()), []);
  const selected = useMemo(() => signal<string | null>(null), []);
  const source = useMemo<GraphSource | null>(
    () =>
      graph && {
        graph,
        paths: computed(() => []),
        step: () => NO_STEP,
        isCritical: () => false,
        selected,
        onSelect: (path) => (selected.value = selected.value === path ? null : path),
        opened,
        onToggle(path) {
          const next = new Set(opened.value);
          if (!next.delete(path)) next.add(path);
          opened.value = next;
        },
      },
    [graph],
  );
  if (error) return <p class="empty">{error}</p>;
  return <div class="graph plan-preview">{source ? <PlanGraph source={source} direction="TB" /> : <p class="empty">…</p>}</div>;
}
