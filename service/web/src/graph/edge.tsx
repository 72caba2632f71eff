// A line from a step to one that waits for it. It shows the state of the step that it leads to, and reads nothing else.
import { useComputed } from "@preact/signals";
import { getBezierPath, type EdgeProps } from "@xyflow/react";
import type { JSX } from "preact";
import { memo } from "preact/compat";
import { useSource } from "./source";
import type { EdgeKind } from "./types";

export interface EdgeData extends Record<string, unknown> {
  kind: EdgeKind;
}

export const WaitEdge = memo(function WaitEdge(props: EdgeProps): JSX.Element {
  const source = useSource();
  const { target, data } = props;
  const isCritical = useComputed(() => source.isCritical(props.source) && source.isCritical(target)).value;
  const [path] = getBezierPath(props);
  const { kind } = data as EdgeData;
  return <path class={`wait is-${source.step(target).status} of-${kind} ${isCritical ? "is-critical" : ""}`} data-step={target} d={path} fill="none" />;
});
