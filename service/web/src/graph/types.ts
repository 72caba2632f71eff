// The graph of a plan (`GET /v1/runs/RUN/graph`, `POST /v1/plans:graph`), and what is drawn of it.

export type Effect = "pure" | "read" | "model" | "write";

export interface GraphStep {
  id: string;
  kind: string;
  tool: string | null;
  plan: string | null;
  does: string;
  detail: string;
  effect: Effect | null;
  conditions: string[];
  is_list: boolean;
  is_conditional: boolean;
  is_repeated: boolean;
  is_critical: boolean;
  needs: string[];
  after: string[];
  ordered: string[];
  why: string | null;
}

export interface PlanBody {
  steps: GraphStep[];
  output_needs: string[];
}

export interface PlanGraph extends PlanBody {
  title: string;
  inputs: string[];
  output: string;
  left_out: string[];
  plans: Record<string, PlanBody>;
}

export type EdgeKind = "data" | "after" | "order";

/** A step, item or iteration of the picture, by its path. */
export interface TreeNode {
  path: string;
  /** What its plan says; `null`: a part that only the run knows, such as an item or the turn of an agent. */
  step: GraphStep | null;
  /** How many parts it has, shown or not. */
  parts: number;
  /** The shown parts; `null`: it is folded, or has none. */
  inside: Level | null;
}

/** What is laid out together: the steps of a plan, or the items of a list. */
export interface Level {
  nodes: TreeNode[];
  edges: { from: string; to: string; kind: EdgeKind }[];
}

// --- what the worker gets and gives

export interface Box {
  id: string;
  width: number;
  height: number;
  inside: BoxLevel | null;
}

export interface BoxLevel {
  boxes: Box[];
  edges: { from: string; to: string }[];
}

export interface LayoutTask {
  number: number;
  level: BoxLevel;
  direction: "TB" | "LR";
}

/** Places are relative to the box around; groups have the size that their parts need. */
export type Places = Record<string, { x: number; y: number; width: number; height: number }>;

export interface LayoutDone {
  number: number;
  places: Places;
}
