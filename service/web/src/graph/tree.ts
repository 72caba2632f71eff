// From a plan's graph and the paths of a run to what is drawn: which steps have which parts, and what is folded.
import { parentOf } from "../store/paths";
import type { GraphStep, Level, PlanBody, PlanGraph, TreeNode } from "./types";

/** Path of a step, item or iteration -> the paths of its direct parts, in the order of the run. */
export type Parts = ReadonlyMap<string, readonly string[]>;

export function partsOf(paths: readonly string[]): Parts {
  const found = new Map<string, string[]>();
  const known = new Set(paths);
  for (const path of paths) {
    let outer = parentOf(path);
    // An item that runs once is no path of its own: `each[0]/y` may stand in `each` alone.
    while (outer !== null && !known.has(outer)) outer = parentOf(outer);
    if (outer === null) continue;
    const parts = found.get(outer);
    if (parts) parts.push(path);
    else found.set(outer, [path]);
  }
  return found;
}

/** The picture of a whole plan; the parts of the paths in `opened` are shown. */
export function treeOf(graph: PlanGraph, parts: Parts, opened: ReadonlySet<string>): Level {
  return new Tree(graph, parts, opened).level(graph, "", "");
}

class Tree {
  constructor(
    readonly graph: PlanGraph,
    readonly parts: Parts,
    readonly opened: ReadonlySet<string>,
  ) {}

  /** The steps of a plan below `prefix`; `scope` is the name of the saved plan in which names of plans are looked up first. */
  level(body: PlanBody, prefix: string, scope: string): Level {
    const at = (id: string): string => prefix + id;
    return {
      nodes: body.steps.map((step) => this.node(at(step.id), step, step, scope)),
      edges: body.steps.flatMap((step) => [
        ...step.needs.map((from) => ({ from: at(from), to: at(step.id), kind: "data" as const })),
        ...step.after.map((from) => ({ from: at(from), to: at(step.id), kind: "after" as const })),
        ...step.ordered.map((from) => ({ from: at(from), to: at(step.id), kind: "order" as const })),
      ]),
    };
  }

  /** A node; `of` is the step of which it is, or is an item. */
  node(path: string, step: GraphStep | null, of: GraphStep, scope: string): TreeNode {
    const parts = this.parts.get(path) ?? [];
    const isOpen = parts.length > 0 && this.opened.has(path);
    return { path, step, parts: parts.length, inside: isOpen ? this.inside(path, parts, of, scope) : null };
  }

  inside(path: string, parts: readonly string[], of: GraphStep, scope: string): Level {
    const isPlan = parts.every((part) => part.startsWith(`${path}/`));
    const name = of.plan === null ? null : `${scope}${of.plan}` in this.graph.plans ? `${scope}${of.plan}` : of.plan;
    const body = isPlan && name !== null ? this.graph.plans[name] : undefined;
    if (body) return this.level(body, `${path}/`, name === null || name.includes("/") ? scope : `${name}/`);
    // Items run side by side; the turns of an agent, and rounds, follow each other.
    const isChain = isPlan || parts.every((part) => part.startsWith(`${path}#`));
    return {
      nodes: parts.map((part) => this.node(part, null, of, scope)),
      edges: isChain ? parts.slice(1).map((to, at) => ({ from: parts[at]!, to, kind: "after" as const })) : [],
    };
  }
}

/** All nodes of a picture with the level around them, outer ones first. */
export function* walk(level: Level, parent: string | null = null): Generator<{ node: TreeNode; parent: string | null }> {
  for (const node of level.nodes) {
    yield { node, parent };
    if (node.inside) yield* walk(node.inside, node.path);
  }
}

/** Every edge of a picture; no edge leaves its level, because a plan refers to a step, never to its parts. */
export function edgesOf(level: Level): Level["edges"] {
  return [...level.edges, ...level.nodes.flatMap((node) => (node.inside ? edgesOf(node.inside) : []))];
}
