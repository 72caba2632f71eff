// One saved plan: a form of its inputs, its graph, its schedules, its versions.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { request, Problem } from "../api/client";
import { parseExact } from "../api/json";
import type { JsonObject, PlanHistory, PlanVersion } from "../api/types";
import { address, href, setQuery } from "../router";
import { barredFrom } from "../store/person";
import { attempt, Button, say, Tabs } from "../ui/controls";
import { Text } from "../ui/text";
import { Ago } from "../ui/time";
import { JsonTree } from "../ui/tree";
import { PlanPreview } from "./preview";
import { Schedules } from "./schedules";
import { StartPlan } from "./start";

const TABS = [
  ["graph", "Graph"],
  ["history", "History"],
  ["json", "JSON"],
] as const;

interface Read {
  plan: JsonObject;
  etag: string;
}

export function PlanView({ name }: { name: string }): JSX.Element {
  const [read, setRead] = useState<Read | null>(null);
  const [error, setError] = useState("");
  const path = `v1/plans/${encodeURIComponent(name)}`;
  const load = async (): Promise<void> => {
    try {
      const answer = await request("GET", path);
      setRead({ plan: parseExact(await answer.text()) as JsonObject, etag: answer.headers.get("ETag") ?? "" });
      setError("");
    } catch (failed) {
      setRead(null);
      setError(failed instanceof Problem ? failed.message : String(failed));
    }
  };
  useEffect(() => void load(), [path]);
  const tab = TABS.find(([id]) => id === address.value.query.get("tab"))?.[0] ?? "graph";
  return (
    <main class="page" id="main">
      <header>
        <h1>
          <Text of={name} />
        </h1>
        {read?.plan.task ? (
          <p>
            <Text of={String(read.plan.task)} />
          </p>
        ) : null}
      </header>
      {error ? (
        <p class="warning" role="alert">
          <Text of={error} />
        </p>
      ) : null}
      {read === null ? null : (
        <>
          <section class="start-plan" aria-label="Run the plan">
            <StartPlan key={read.etag} plan={read.plan} body={{ plan_name: name }} />
          </section>
          <Tabs label="Views of the plan" tabs={TABS} chosen={tab} panelId="plan-panel" onChoose={(id) => setQuery({ tab: id }, true)} />
          <section id="plan-panel" class="plan-panel" role="tabpanel" aria-labelledby={`plan-panel-tab-${tab}`} tabIndex={0}>
            {tab === "graph" ? (
              <PlanPreview plan={read.plan} />
            ) : tab === "history" ? (
              <History name={name} etag={read.etag} onRestored={load} />
            ) : (
              <JsonTree value={read.plan} name={name} label="the plan" />
            )}
          </section>
          <Schedules plan={name} body={read.plan} />
        </>
      )}
      {read === null && error ? <History name={name} etag="" onRestored={load} /> : null}
    </main>
  );
}

function History({ name, etag, onRestored }: { name: string; etag: string; onRestored: () => Promise<void> }): JSX.Element | null {
  const [versions, setVersions] = useState<PlanVersion[] | null>(null);
  const path = `v1/plans/${encodeURIComponent(name)}`;
  useEffect(() => {
    request("GET", `${path}/history`)
      .then((answer) => answer.json())
      .then((found: PlanHistory) => setVersions(found.versions))
      .catch(() => setVersions([]));
  }, [path, etag]);
  if (versions === null) return <p class="empty">…</p>;
  if (versions.length === 0) return <p class="empty">No versions are known.</p>;
  const restore = (version: PlanVersion): void =>
    void attempt(async () => {
      const plan = parseExact(await (await request("GET", `${path}/history/${version.text_digest ?? version.digest}`)).text());
      // Only in the place of the plan that is shown: what somebody saved meanwhile is not lost.
      await request("PUT", path, { body: { plan }, headers: etag ? { "If-Match": etag } : { "If-None-Match": "*" } });
      say(`Version ${version.version} is the plan again`);
      await onRestored();
    });
  return (
    <ol class="plan-versions" aria-label="Versions">
      {versions.map((each) => {
        const isPresent = etag === `"${each.text_digest}"` && each === versions[0];
        return (
          <li key={each.version}>
            <strong>version {each.version}</strong>
            <span>{each.deleted ? "deleted" : isPresent ? "the present plan" : "saved"}</span>
            <span class="soft">
              <Ago at={each.saved} />
              {each.by ? <Text of={` by ${each.by}`} /> : null}
            </span>
            {each.digest === null ? null : (
              <a href={href(["runs"], { plan: each.digest })} class="soft">
                runs of {each.digest.slice(7, 15)}
              </a>
            )}
            <span class="grow" />
            {each.deleted || isPresent ? null : <Button barred={barredFrom("submit")} aria-label={`Restore version ${each.version}`} onClick={() => restore(each)}>Restore</Button>}
          </li>
        );
      })}
    </ol>
  );
}
