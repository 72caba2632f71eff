// The timeline of a run: a row for each step, and in it when the step was queued, waited, was called and was called again.
//
// All bars stand on custom properties of the timeline (`--span`, `--now`), so that a passing second changes one element, not all bars.
import { signal, type Signal } from "@preact/signals";
import type { JSX } from "preact";
import { memo } from "preact/compat";
import { useEffect, useMemo, useRef } from "preact/hooks";
import { isEnded, type RunStore } from "../store/run";
import { partsOf } from "../graph/tree";
import { lastPart } from "../store/paths";
import { StatusIcon, statusWord } from "../ui/status";
import { Button } from "../ui/controls";
import { Text, visible } from "../ui/text";
import { duration } from "../ui/time";
import { spansOf, type Span } from "./spans";

const ROWS_MAX = 400;
const FRAME_MS = 100;
const AXIS_STEP = 0.04;

export function Timeline({ store, onSelect }: { store: RunStore; onSelect: (path: string) => void }): JSX.Element {
  const opened = useMemo(() => signal<ReadonlySet<string>>(new Set()), [store]);
  const zoom = useMemo(() => signal(1), [store]);
  const box = useRef<HTMLDivElement>(null);
  const from = store.head.value?.created ?? 0;
  const status = store.head.value?.status ?? "queued";
  const isLive = status === "running" || status === "queued";
  const waits = !isLive && !isEnded(status);
  const span = useMemo(() => signal(0), [store]);
  useClock(box, store, from, isLive, waits, span);

  const parts = partsOf(store.paths.value);
  const rows: { path: string; level: number }[] = [];
  const add = (path: string, level: number): void => {
    rows.push({ path, level });
    if (opened.value.has(path)) for (const part of parts.get(path) ?? []) add(part, level + 1);
  };
  const inner = new Set([...parts.values()].flat());
  for (const path of store.paths.value) if (!inner.has(path)) add(path, 0);
  const shown = rows.slice(0, ROWS_MAX);
  const toggle = (path: string): void => {
    const next = new Set(opened.value);
    if (!next.delete(path)) next.add(path);
    opened.value = next;
  };
  return (
    <div class="timeline" ref={box} role="region" aria-label="Timeline">
      <div class="timeline-tools">
        <span class="soft timeline-legend">
          {(["queued", "running", "waiting", "pause", "failed", "reused"] as const).map((kind) => (
            <span key={kind}>
              <i class={`bar is-${kind}`} /> {kind === "pause" ? "before a retry" : kind}
            </span>
          ))}
        </span>
        <span class="grow" />
        <Button look="quiet" aria-label="Shorter" onClick={() => (zoom.value = Math.max(1, zoom.value / 2))}>
          −
        </Button>
        <Button look="quiet" aria-label="Longer" onClick={() => (zoom.value = Math.min(64, zoom.value * 2))}>
          +
        </Button>
      </div>
      <div class="timeline-scroll" tabIndex={0} role="group" aria-label="Rows of the timeline">
        <div class="timeline-rows" style={{ width: `calc(var(--names) + (100% - var(--names)) * ${zoom.value})` }}>
          <Axis span={span} marks={Math.min(40, Math.round(6 * zoom.value))} />
          {shown.map(({ path, level }) => (
            <Row
              key={path}
              store={store}
              path={path}
              level={level}
              parts={parts.get(path)?.length ?? 0}
              isOpen={opened.value.has(path)}
              onToggle={toggle}
              onSelect={onSelect}
            />
          ))}
          {rows.length > shown.length ? <p class="soft">{rows.length - shown.length} more rows: fold some of those above.</p> : null}
        </div>
      </div>
    </div>
  );
}

/** Keep `--now` and `--span` of the timeline; while the run lives, ten times a second. The axis follows in steps of some percent. */
function useClock(
  box: { current: HTMLDivElement | null },
  store: RunStore,
  from: number,
  isLive: boolean,
  waits: boolean,
  shown: Signal<number>,
): void {
  const last = store.head.value?.updated ?? from;
  // Nobody knows how long a person takes: the bar of what waits gets a part of the width, and the others keep theirs.
  const end = waits ? last + Math.max(0.15 * (last - from), 0.01) : last;
  useEffect(() => {
    const tick = (): void => {
      const now = isLive ? Math.max(end, Date.now() / 1000) : end;
      const style = box.current?.style;
      const span = Math.max(now - from, 0.001);
      style?.setProperty("--now", String(now - from));
      style?.setProperty("--span", String(span));
      if (!isLive || Math.abs(shown.peek() - span) > AXIS_STEP * span) shown.value = span;
    };
    tick();
    if (!isLive) return undefined;
    const timer = setInterval(() => {
      if (!document.hidden) tick();
    }, FRAME_MS);
    return () => clearInterval(timer);
  }, [from, end, isLive]);
}

function Axis({ span, marks }: { span: Signal<number>; marks: number }): JSX.Element {
  return (
    <div class="timeline-axis" aria-hidden="true">
      {Array.from({ length: marks }, (_, at) => (
        <span key={at} style={{ left: `calc(var(--names) + (100% - var(--names)) * ${at / marks})` }}>
          {duration((span.value * at) / marks)}
        </span>
      ))}
    </div>
  );
}

interface RowProps {
  store: RunStore;
  path: string;
  level: number;
  parts: number;
  isOpen: boolean;
  onToggle: (path: string) => void;
  onSelect: (path: string) => void;
}

const Row = memo(function Row({ store, path, level, parts, isOpen, onToggle, onSelect }: RowProps): JSX.Element {
  const step = store.step(path).value;
  const from = store.head.peek()?.created ?? 0;
  const events = store.events(path).value;
  const spans = parts === 0 ? spansOf(events) : wholeOf(step.started, step.finished, step.status);
  const begun = spans[0]?.start ?? null;
  return (
    <div class={`timeline-row is-${step.status}`} data-step={path}>
      <div class="timeline-name" style={{ paddingLeft: `${8 + level * 14}px` }}>
        {parts > 0 ? (
          <button type="button" class="json-toggle" aria-expanded={isOpen} aria-label={`Parts of ${path}`} onClick={() => onToggle(path)} />
        ) : (
          <span class="timeline-leaf" />
        )}
        <button type="button" class="timeline-link" onClick={() => onSelect(path)} aria-label={`${visible(path)}, ${statusWord(step.status)}`}>
          <StatusIcon status={step.status} />
          <Text of={level === 0 ? path : lastPart(path)} />
        </button>
      </div>
      <div class="timeline-bars">
        {begun === null ? null : <i class="bar is-queued" style={{ "--s": 0, "--e": begun - from }} />}
        {spans.map((span, at) => (
          <i
            key={at}
            class={`bar is-${span.kind} ${parts > 0 ? "is-whole" : ""}`}
            title={visible(titleOf(span))}
            style={{ "--s": span.start - from, "--e": span.end === null ? "var(--now)" : span.end - from }}
          />
        ))}
      </div>
    </div>
  );
});

function wholeOf(start: number | null, end: number | null, status: string): Span[] {
  if (start === null) return [];
  const kind = status === "failed" ? "failed" : status === "waiting" ? "waiting" : end === null ? "running" : "succeeded";
  return [{ kind, start, end, attempt: null, note: "" }];
}

function titleOf({ kind, start, end, attempt, note }: Span): string {
  const time = end === null ? "so far" : duration(end - start);
  return [attempt === null ? kind : `attempt ${attempt}: ${kind}`, time, note].filter(Boolean).join(", ");
}
