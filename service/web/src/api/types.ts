// The documents of the HTTP API, as `service/schemas.py` describes them; only the fields that the page reads.

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

export type RunStatus =
  | "queued"
  | "running"
  | "waiting"
  | "indeterminate"
  | "over_budget"
  | "parked"
  | "succeeded"
  | "failed"
  | "cancelled";
export type StepStatus =
  | "pending"
  | "running"
  | "waiting"
  | "indeterminate"
  | "succeeded"
  | "failed"
  | "skipped"
  | "cancelled";

export interface RunSummary {
  id: string;
  status: RunStatus;
  task: string | null;
  plan_digest: string | null;
  parent: string | null;
  created: number;
  updated: number;
  digest: string;
  abandoned: boolean;
  reason: string | null;
  /** What its models cost, in US dollars. */
  usd?: number;
}

export interface RunPage {
  runs: RunSummary[];
  cursor: string | null;
}

/** The first rows of a file of a run, as text. */
export interface ArtifactPreview {
  kind: "frame" | "array" | "text";
  columns: { name: string; type: string }[];
  rows: (string | null)[][];
  rows_total: number | null;
  columns_total: number;
  shape: number[] | null;
  dtype: string | null;
}

export interface RunError {
  step: string;
  code: string;
  message: string;
  temporary: boolean;
  took_effect?: boolean;
}

export interface Step {
  status: StepStatus;
  output: Json;
  attempts: number;
  reused: boolean;
  cost: number | null;
  started: number | null;
  finished: number | null;
  error: RunError | null;
  reason: string | null;
  output_digest: string | null;
  args: Json;
  attempt: number | null;
  decision: Json;
  past_write: Json;
  guards: Json;
  until: number | null;
  asked_again?: string | null;
}

export interface RunWarning {
  step: string;
  code: string;
  message: string;
}

export interface Run {
  id: string;
  status: RunStatus;
  output: Json;
  errors: RunError[];
  digest: string;
  plan: JsonObject | null;
  plan_digest: string | null;
  inputs: JsonObject;
  steps: { [path: string]: Step };
  usage: { [name: string]: Json };
  parent: string | null;
  task: string | null;
  created: number | null;
  updated: number | null;
  last_event: number;
  abandoned: boolean;
  left_out: string[];
  output_labels: { [place: string]: string[] };
  warnings: RunWarning[];
  question: { text: string; returns: JsonObject } | null;
}

/** One record of a run's journal. */
export interface RunEvent {
  seq: number;
  type: string;
  step: string;
  at: number;
  data: JsonObject;
}

export interface Quote {
  place: string;
  start: number;
  end: number;
  text: string;
  source: string;
  source_place: string;
  before: string;
  after: string;
}

export interface Origin {
  source: string;
  tool: string;
  args: Json;
  via: string[];
  call: string;
}

export interface ShownArgument {
  name: string;
  value: Json;
  is_default: boolean;
  secret: string | null;
  is_labelled: boolean;
  origins: Origin[];
  origins_left: number;
  quotes: Quote[];
}

export interface EarlierCall {
  run: string;
  at: number | null;
  status: StepStatus;
  args: Json;
  decisions: { decision: string; at: number; by: string; reason: string; edited: boolean }[];
  output: Json;
  error: string | null;
  is_parent: boolean;
}

export interface WaitingCall {
  step: string;
  attempt: number;
  about: "call" | "question" | "outcome";
  tool: string;
  description: string;
  effect: "pure" | "read" | "model" | "write";
  resource: string;
  why: string;
  args: ShownArgument[];
  is_controlled: boolean;
  controlled_by: Origin[];
  past_write: { message: string } | null;
  asked_again?: string | null;
  last_time: EarlierCall | null;
  returns: JsonObject | null;
  parameters: JsonObject | null;
  result: JsonObject | null;
  expires: number | null;
  is_complete: boolean;
  is_labelled: boolean;
}

export type Scope = "read" | "submit" | "approve" | "admin";

/** The key of the requests: `GET /v1/me`. */
export interface Me {
  name: string | null;
  scopes: readonly Scope[];
  tenant: string | null;
  may_approve_own: boolean;
}

export interface Waiting {
  run: string;
  task: string | null;
  plan_digest: string | null;
  submitter: string | null;
  calls: WaitingCall[];
}

export interface LogLine {
  at: number;
  level: string;
  message: string;
  attempt: number | null;
  fields: JsonObject;
}

export interface CallDetails {
  run: string;
  step: string;
  call: WaitingCall | null;
  usage: JsonObject | null;
}

export interface Explanation {
  run: string;
  step: string;
  verdict: string;
  because: string | null;
  sentence: string;
  changes: { name: string; before: Json; after: Json }[];
  source: { run: string; step: string } | null;
  parts: Explanation[];
  decisions: { decision: string; at: number; by: string; reason: string; edited: boolean }[];
  rules: { [argument: string]: string };
}

/** A run in the inbox, with the names of what waits in it. */
export interface WaitingRun {
  run: RunSummary;
  calls: { step: string; attempt: number; about: WaitingCall["about"] }[];
  question: Run["question"];
}

export interface WaitingRuns {
  runs: WaitingRun[];
  cursor: string | null;
}

export interface SavedPlan {
  name: string;
  digest: string;
  task: string | null;
  inputs: JsonObject;
  hits: number;
}

export interface SavedPlans {
  plans: SavedPlan[];
}

export interface PlanVersion {
  version: number;
  digest: string | null;
  text_digest: string | null;
  saved: number;
  by: string | null;
  deleted: boolean;
}

export interface PlanHistory {
  versions: PlanVersion[];
}

/** What a check found. */
export interface Report {
  ok: boolean;
  problems: { code: string; path: string; message: string; hint: string; severity: "error" | "warning" }[];
  bounds: { calls_max: Json; model_calls_max: Json; critical_path: string[] };
}

export interface Schedule {
  name: string;
  plan: string;
  every: number | null;
  cron: string | null;
  tz: string;
  paused: boolean;
  next_at: number | null;
  fires: { at: number; state: string; run_id: string | null; detail: string | null }[];
}

export interface SchedulesPage {
  schedules: Schedule[];
}

export interface Difference {
  path: string;
  kind: "added" | "removed" | "changed";
  before: Json;
  after: Json;
}

/** What differs between two runs; of each pair the first is that of run `a`. */
export interface RunDiff {
  a: string;
  b: string;
  same: boolean;
  /** `renamed_from`: its path in the first run, where its step only had another id. */
  steps: { step: string; renamed_from: string | null; change: "same" | "changed" | "only_a" | "only_b"; status: (StepStatus | null)[]; why: string; output: Difference[]; args: Difference[] }[];
  inputs: Difference[];
  output: Difference[];
  first: string | null;
}
