// One step in the graph. It reads the signals of its own step alone, so an event of another step leaves its elements as they are.
import { Handle, Position, type MiniMapNodeProps, type NodeProps } from "@xyflow/react";
import { useComputed } from "@preact/signals";
import type { JSX } from "preact";
import { memo } from "preact/compat";
import type { Step } from "../api/types";
import { lastPart } from "../store/paths";
import { StatusIcon, statusWord } from "../ui/status";
import { cut, rendered, Text, visible } from "../ui/text";
import { duration } from "../ui/time";
import { useSource } from "./source";
import type { TreeNode } from "./types";

export interface NodeData extends Record<string, unknown> {
  node: TreeNode;
  direction: "TB" | "LR";
}

export const StepNode = memo(function StepNode({ data }: NodeProps): JSX.Element {
  const { node, direction } = data as NodeData;
  const source = useSource();
  const { path } = node;
  const step = source.step(path);
  const isSelected = useComputed(() => source.selected.value === path).value;
  const isCritical = useComputed(() => source.isCritical(path)).value;
  const effect = node.step?.effect ?? null;
  const name = lastPart(path);
  const classes = ["node", `is-${step.status}`, source.classOf?.(path) ?? ""];
  if (node.inside) classes.push("is-open");
  if (isSelected) classes.push("is-selected");
  if (isCritical) classes.push("is-critical");
  if (node.parts > 0 && !node.inside) classes.push("is-folded");
  return (
    <div class={classes.join(" ")} data-step={path} data-effect={effect ?? undefined}>
      <Handle type="target" position={direction === "TB" ? Position.Top : Position.Left} isConnectable={false} />
      <button
        type="button"
        class="node-main nodrag"
        aria-pressed={isSelected}
        aria-label={labelOf(path, step, node)}
        onClick={() => source.onSelect(path)}
      >
        <span class="node-title">
          <StatusIcon status={step.status} />
          <span class="node-name">
            <Text of={name} />
          </span>
          <Badges step={step} node={node} />
        </span>
        <span class="node-does">
          <Text of={wordsOf(node, step)} />
        </span>
        <span class="node-foot">
          {effect ? <span class={`node-effect is-${effect}`}>{effect}</span> : null}
          {node.step?.conditions[0] ? (
            <span class="node-condition" title={visible(node.step.conditions.join("\n"))}>
              <Text of={node.step.conditions[0]} />
            </span>
          ) : null}
          <span class="grow" />
          <span class="node-time">{source.note?.(path) ?? timeOf(step)}</span>
        </span>
        <Progress path={path} step={step} />
      </button>
      {node.parts > 0 ? (
        <button
          type="button"
          class="node-fold nodrag"
          aria-expanded={node.inside !== null}
          aria-label={`${node.inside ? "Fold" : "Open"} ${path}: ${node.parts} parts`}
          onClick={() => source.onToggle(path)}
        >
          {node.inside ? "−" : "+"}
          <span class="node-parts">{node.parts}</span>
        </button>
      ) : null}
      <Handle type="source" position={direction === "TB" ? Position.Bottom : Position.Right} isConnectable={false} />
    </div>
  );
});

const WORDS_MAX = 80;

/** What a step does, by its plan; of an item, round or turn, which no plan describes, what came of it. */
function wordsOf({ step: planned }: TreeNode, step: Step): string {
  if (planned) return `${planned.does || planned.kind} ${planned.detail}`;
  return cut(step.error?.message ?? (step.status === "succeeded" ? rendered(step.output) : (step.reason ?? "")), WORDS_MAX);
}

function Badges({ step, node }: { step: Step; node: TreeNode }): JSX.Element {
  const isRetried = step.attempts > 1 && node.parts === 0;
  return (
    <>
      {step.reused ? (
        <span class="badge" title="An earlier result was reused">
          reused
        </span>
      ) : null}
      {isRetried ? (
        <span class="badge is-retried" title={`${step.attempts} calls`}>
          ↻ {step.attempts}
        </span>
      ) : null}
    </>
  );
}

function Progress({ path, step }: { path: string; step: Step }): JSX.Element | null {
  const last = useSource()
    .events?.(path)
    .findLast((event) => event.type === "CallProgressed");
  if (!last || step.status !== "running") return null;
  const fraction = Number(last.data.fraction ?? 0);
  return <progress class="node-progress" max={1} value={fraction} aria-label={`progress of ${path}`} />;
}

function timeOf(step: Step): string {
  return step.started !== null && step.finished !== null ? duration(step.finished - step.started) : "";
}

function labelOf(path: string, step: Step, node: TreeNode): string {
  const words = [visible(path), statusWord(step.status)];
  if (step.reused) words.push("reused");
  if (step.attempts > 1 && node.parts === 0) words.push(`${step.attempts} calls`);
  if (node.step?.effect) words.push(node.step.effect);
  return words.join(", ");
}

/** A step in the small map: only its place and its state. */
export const MapNode = memo(function MapNode({ id, x, y, width, height }: MiniMapNodeProps): JSX.Element {
  const source = useSource();
  return <rect class={`map-node is-${source.step(id).status}`} data-step={id} x={x} y={y} width={width} height={height} rx={6} />;
});
