// What a graph shows beside the plan: the state of each step. A run, a plan that has not run, and a comparison are sources.
import type { ReadonlySignal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { RunEvent, Step } from "../api/types";
import type { PlanGraph } from "./types";

export interface GraphSource {
  graph: PlanGraph;
  /** Paths of all steps, items and iterations; of a plan that has not run: none. */
  paths: ReadonlySignal<readonly string[]>;
  /** The state of a step. It is called while the node of that path renders, so that it may read signals. */
  step(path: string): Step;
  events?(path: string): readonly RunEvent[];
  /** Further classes of a node, such as what a comparison says of the step. */
  classOf?(path: string): string;
  /** A few words in place of the duration. */
  note?(path: string): string | null;
  isCritical(path: string): boolean;
  selected: ReadonlySignal<string | null>;
  onSelect(path: string): void;
  opened: ReadonlySignal<ReadonlySet<string>>;
  onToggle(path: string): void;
}

export const SourceContext = createContext<GraphSource | null>(null);

export function useSource(): GraphSource {
  return useContext(SourceContext)!;
}
