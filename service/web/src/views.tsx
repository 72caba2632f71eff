// The views of the page, by address. A new view is a line here, and perhaps one in `NAVIGATION`.
import type { JSX } from "preact";
import { CompareView } from "./compare/view";
import { InboxView } from "./decisions/inbox";
import { PlansView } from "./plans/list";
import { TaskView } from "./plans/task";
import { PlanView } from "./plans/view";
import { RunView } from "./run/view";
import { RunsView } from "./runs/list";

export interface View {
  /** The parts of the address; `:name` stands for any part. */
  pattern: readonly string[];
  title: (names: Record<string, string>) => string;
  show: (names: Record<string, string>) => JSX.Element;
}

const VIEWS: readonly View[] = [
  { pattern: ["runs"], title: () => "Runs", show: () => <RunsView /> },
  { pattern: ["runs", ":id"], title: ({ id }) => id ?? "", show: ({ id }) => <RunView key={id} id={id ?? ""} /> },
  { pattern: ["decisions"], title: () => "Decisions", show: () => <InboxView /> },
  { pattern: ["plans"], title: () => "Plans", show: () => <PlansView /> },
  { pattern: ["plans", ":name"], title: ({ name }) => name ?? "", show: ({ name }) => <PlanView key={name} name={name ?? ""} /> },
  { pattern: ["compare", ":a", ":b"], title: () => "Two runs", show: ({ a, b }) => <CompareView key={`${a} ${b}`} a={a ?? ""} b={b ?? ""} /> },
  { pattern: ["task"], title: () => "Plan a task", show: () => <TaskView /> },
];

/** Views that the head of the page leads to: the first part of the address, the name, and the key that goes there. */
export const NAVIGATION: readonly { part: string; name: string; keys: string }[] = [
  { part: "runs", name: "Runs", keys: "g r" },
  { part: "decisions", name: "Decisions", keys: "g d" },
  { part: "plans", name: "Plans", keys: "g p" },
];

export function viewOf(parts: readonly string[]): { view: View; names: Record<string, string> } | null {
  for (const view of VIEWS) {
    if (view.pattern.length !== parts.length) continue;
    const names: Record<string, string> = {};
    const fits = view.pattern.every((part, at) => {
      if (!part.startsWith(":")) return part === parts[at];
      names[part.slice(1)] = parts[at]!;
      return true;
    });
    if (fits) return { view, names };
  }
  return null;
}
