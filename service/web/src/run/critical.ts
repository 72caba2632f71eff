// The critical path of a run: the chain of steps that decided when it ended.
import type { Step } from "../api/types";
import type { PlanGraph } from "../graph/types";

/**
 * Return the ids of the plan's own steps on the critical path: from the step that ended last, each time back to the step that it waited for
 * longest. Before any step has ended, it is the longest chain of the plan.
 */
export function criticalPath(graph: PlanGraph, step: (path: string) => Step): ReadonlySet<string> {
  const waits = new Map(graph.steps.map((each) => [each.id, [...each.needs, ...each.after, ...each.ordered]]));
  const end = (id: string): number => step(id).finished ?? (step(id).status === "running" ? Infinity : -1);
  const latest = (ids: readonly string[]): string | undefined =>
    ids.filter((id) => end(id) >= 0).reduce<string | undefined>((best, id) => (best === undefined || end(id) > end(best) ? id : best), undefined);
  let at = latest([...waits.keys()]);
  if (at === undefined) return new Set(graph.steps.filter((each) => each.is_critical).map((each) => each.id));
  const found = new Set<string>();
  while (at !== undefined && !found.has(at)) {
    found.add(at);
    at = latest(waits.get(at) ?? []);
  }
  return found;
}
