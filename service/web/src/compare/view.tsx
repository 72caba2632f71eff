// Two runs side by side: their graphs with what differs, and the differences step by step.
import { computed, signal, type Signal } from "@preact/signals";
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { get, getExact, runPath } from "../api/client";
import { jsonText } from "../api/json";
import type { Difference, Run, RunDiff } from "../api/types";
import type { GraphSource } from "../graph/source";
import type { PlanGraph as Graph } from "../graph/types";
import { PlanGraph } from "../graph/view";
import { href } from "../router";
import { titleOf } from "../runs/list";
import { NO_STEP } from "../store/progress";
import { StatusBadge } from "../ui/status";
import { Text } from "../ui/text";

interface Side {
  run: Run;
  graph: Graph;
}

interface Compared {
  diff: RunDiff;
  sides: readonly [Side, Side];
}

const WORDS = { same: "same", changed: "changed", only_a: "only here", only_b: "only here" } as const;

export function CompareView({ a, b }: { a: string; b: string }): JSX.Element {
  const [compared, setCompared] = useState<Compared | null>(null);
  const [error, setError] = useState("");
  useEffect(() => {
    const side = async (id: string): Promise<Side> => ({ run: await get<Run>(runPath(id)), graph: await get<Graph>(runPath(id, "graph")) });
    Promise.all([getExact<RunDiff>(runPath(a, "diff", b)), side(a), side(b)]).then(
      ([diff, first, second]) => setCompared({ diff, sides: [first, second] }),
      (failed: Error) => setError(failed.message),
    );
  }, [a, b]);
  return (
    <main class="page" id="main">
      <h1>Two runs</h1>
      {error ? (
        <p class="warning" role="alert">
          <Text of={error} />
        </p>
      ) : compared === null ? (
        <p class="empty">…</p>
      ) : (
        <Shown {...compared} />
      )}
    </main>
  );
}

function Shown({ diff, sides }: Compared): JSX.Element {
  const selected = useMemo(() => signal<string | null>(diff.first), [diff]);
  const opened = useMemo(() => signal<ReadonlySet<string>>(new Set()), [diff]);
  const changed = diff.steps.filter((each) => each.change !== "same");
  return (
    <>
      <p class={diff.same ? "check-ok" : ""} role="status">
        {diff.same ? "The runs are the same." : `${changed.length} of ${diff.steps.length} steps differ${diff.first ? `, first ${diff.first}` : ""}.`}
      </p>
      <div class="compare">
        {sides.map((side, at) => (
          <section key={at} class="graph" aria-label={`Run ${side.run.id}, ${at ? "second" : "first"}`}>
            <header class="graph-tools">
              <a href={href(["runs", side.run.id])}>
                <Text of={titleOf(side.run)} /> <code>{side.run.id}</code>
              </a>
              <StatusBadge status={side.run.status} />
            </header>
            <OneGraph side={side} diff={diff} selected={selected} opened={opened} />
          </section>
        ))}
      </div>
      <Differences name="Inputs" list={diff.inputs} />
      <Differences name="Output" list={diff.output} />
      <section aria-labelledby="steps-title" class="compare-steps">
        <h2 id="steps-title">Steps that differ</h2>
        {changed.length === 0 ? <p class="soft">None.</p> : null}
        {changed.map((each) => (
          <article key={each.step} class={each.step === selected.value ? "call is-selected" : "call"} data-diff={each.step}>
            <header>
              <button type="button" class="button quiet" aria-pressed={each.step === selected.value} onClick={() => (selected.value = each.step)}>
                <Text of={each.step} />
              </button>
              {each.renamed_from === null ? null : (
                <span class="soft">
                  was <Text of={each.renamed_from} />
                </span>
              )}
              <span class="soft">{each.change === "only_a" ? "only in the first run" : each.change === "only_b" ? "only in the second run" : each.status.map((status) => status ?? "not there").join(" → ")}</span>
            </header>
            {each.why ? (
              <p>
                <Text of={each.why} />
              </p>
            ) : null}
            <Differences name="Arguments" list={each.args} />
            <Differences name="Value" list={each.output} />
          </article>
        ))}
      </section>
    </>
  );
}

function OneGraph({ side, diff, selected, opened }: { side: Side; diff: RunDiff; selected: Signal<string | null>; opened: Signal<ReadonlySet<string>> }): JSX.Element {
  const source = useMemo<GraphSource>(() => {
    const changes = new Map(diff.steps.map((each) => [each.step, each.change]));
    return {
      graph: side.graph,
      paths: computed(() => Object.keys(side.run.steps)),
      step: (path) => side.run.steps[path] ?? NO_STEP,
      classOf: (path) => `diff-${changes.get(path) ?? "same"}`,
      note: (path) => WORDS[changes.get(path) ?? "same"],
      isCritical: () => false,
      selected,
      onSelect: (path) => (selected.value = path),
      opened,
      onToggle(path) {
        const next = new Set(opened.value);
        if (!next.delete(path)) next.add(path);
        opened.value = next;
      },
    };
  }, [side, diff]);
  return <PlanGraph source={source} direction="TB" />;
}

function Differences({ name, list }: { name: string; list: readonly Difference[] }): JSX.Element | null {
  if (list.length === 0) return null;
  return (
    <div class="differences" role="group" aria-label={name}>
      <strong>{name}</strong>
      {list.map((each) => (
        <div key={each.path} class="difference">
          <code>
            <Text of={each.path || "the whole value"} />
          </code>
          <pre class="whole" role="group" tabIndex={0} aria-label={`before, ${each.path}`}>
            {each.kind === "added" ? <span class="soft">nothing</span> : <Text of={jsonText(each.before, 2)} />}
          </pre>
          <pre class="whole" role="group" tabIndex={0} aria-label={`after, ${each.path}`}>
            {each.kind === "removed" ? <span class="soft">nothing</span> : <Text of={jsonText(each.after, 2)} />}
          </pre>
        </div>
      ))}
    </div>
  );
}
