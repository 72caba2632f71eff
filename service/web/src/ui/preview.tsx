// The first rows of the frames, arrays and texts in a value: the value itself has only what stands for them, and their bytes lie in the store.
import type { JSX } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { get, Problem, request, runPath } from "../api/client";
import type { ArtifactPreview, Json } from "../api/types";
import { attempt, Button, download } from "./controls";
import { count, cut, Text } from "./text";

const TABLES_FIRST = 3;
const LOOKED_AT = 10_000;
const CELL_FIRST = 120;
const TEXTS = ["application/json", "application/x-ndjson", "application/yaml", "application/xml"];
const TABLES = ["application/vnd.apache.arrow.file", "application/x-npy"];

interface Artifact {
  place: string;
  digest: string;
  media_type: string;
  size: number;
  name: string;
}

export function Previews({ run, value }: { run: string; value: Json }): JSX.Element | null {
  const found = useMemo(() => artifactsIn(value), [value]);
  const [shown, setShown] = useState(TABLES_FIRST);
  if (found.length === 0) return null;
  return (
    <div class="previews">
      {found.slice(0, shown).map((artifact) => (
        <Preview key={`${artifact.place} ${artifact.digest}`} run={run} artifact={artifact} />
      ))}
      {found.length > shown ? (
        <Button look="quiet" onClick={() => setShown(shown * 4)}>
          Show more: {count(found.length - shown, "file")} left
        </Button>
      ) : null}
    </div>
  );
}

/** What stands for files in a value, by place, as far as a look at the first thousands of its parts finds it. */
function artifactsIn(value: Json): Artifact[] {
  const found: Artifact[] = [];
  const waiting: [string, Json][] = [["", value]];
  for (let at = 0; at < waiting.length && at < LOOKED_AT; at++) {
    const [place, each] = waiting[at]!;
    if (each === null || typeof each !== "object") continue;
    const { digest, media_type, size, name } = each as { [key: string]: Json };
    if (typeof digest === "string" && digest.startsWith("sha256:") && typeof media_type === "string" && typeof size === "number") {
      found.push({ place, digest, media_type, size, name: typeof name === "string" ? name : "" });
    } else if (Array.isArray(each)) {
      each.forEach((child, index) => waiting.push([`${place}[${index}]`, child]));
    } else {
      Object.entries(each).forEach(([key, child]) => waiting.push([place ? `${place}.${key}` : key, child]));
    }
  }
  return found;
}

function Preview({ run, artifact }: { run: string; artifact: Artifact }): JSX.Element {
  const { digest, media_type: type, size } = artifact;
  const [found, setFound] = useState<ArtifactPreview | string | null>(null);
  const path = runPath(run, "artifacts", digest);
  const hasPreview = TABLES.includes(type) || TEXTS.includes(type) || type.startsWith("text/");
  useEffect(() => {
    if (!hasPreview) return;
    const stop = new AbortController();
    get<ArtifactPreview>(`${path}/preview`, stop.signal)
      .then(setFound)
      .catch((error: unknown) => {
        if (!stop.signal.aborted) setFound(error instanceof Problem ? error.message : "no answer");
      });
    return () => stop.abort();
  }, [path, hasPreview]);
  const title = artifact.name || artifact.place || "Preview";
  return (
    <section class="preview" aria-label={`the first rows of ${title}`}>
      <div class="row">
        <h3>
          <Text of={title} />
        </h3>
        <span class="soft">
          <Text of={found !== null && typeof found !== "string" ? extent(found) : cut(type, CELL_FIRST)} /> · {bytes(size)}
        </span>
        <span class="grow" />
        <Button
          look="quiet"
          onClick={() => void attempt(async () => download(fileName(artifact), await (await request("GET", path)).blob()))}
        >
          Download
        </Button>
      </div>
      {typeof found === "string" ? (
        <p class="soft">
          No preview: <Text of={found} />
        </p>
      ) : found === null ? (
        hasPreview ? <p class="soft">…</p> : null
      ) : found.kind === "text" ? (
        <pre class="preview-text">
          <Text of={found.rows.map(([line]) => line ?? "").join("\n")} />
        </pre>
      ) : (
        <Table shown={found} />
      )}
    </section>
  );
}

function Table({ shown }: { shown: ArtifactPreview }): JSX.Element {
  const isArray = shown.kind === "array";
  return (
    <div class="scroll preview-scroll" tabIndex={0}>
      <table class="preview-table">
        <thead>
          <tr>
            {isArray ? <th scope="col">index</th> : null}
            {shown.columns.map((column, at) => (
              <th scope="col" key={at}>
                <Cell text={column.name} /> <span class="soft"><Cell text={column.type} /></span>
              </th>
            ))}
            {shown.columns_total > shown.columns.length ? <th scope="col" class="soft">and {shown.columns_total - shown.columns.length} more</th> : null}
          </tr>
        </thead>
        <tbody>
          {shown.rows.map((row, at) => (
            <tr key={at}>
              {isArray ? <th scope="row">{at}</th> : null}
              {row.map((cell, place) => (
                <td key={place}>{cell === null ? <span class="json-null">null</span> : <Cell text={cell} />}</td>
              ))}
              {shown.columns_total > shown.columns.length ? <td class="soft">…</td> : null}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** The beginning of a text; the whole of what the server sent stands in the title. */
function Cell({ text }: { text: string }): JSX.Element {
  const short = cut(text, CELL_FIRST);
  return <span title={short === text ? undefined : text}><Text of={short.replaceAll(/\s/g, " ")} /></span>;
}

function extent({ kind, rows, rows_total, columns_total, shape, dtype }: ArtifactPreview): string {
  if (kind === "array") return `${dtype} [${(shape ?? []).join(", ")}]`;
  const lines = kind === "text" ? "line" : "row";
  if (rows_total === null) return `the first ${count(rows.length, lines)}`;
  const some = rows.length < rows_total ? `the first ${rows.length.toLocaleString("en")} of ` : "";
  return `${some}${count(rows_total, lines)}${kind === "frame" ? `, ${count(columns_total, "column")}` : ""}`;
}

function bytes(size: number): string {
  return size < 1_000 ? `${size} B` : size < 1_000_000 ? `${(size / 1_000).toFixed(1)} kB` : `${(size / 1_000_000).toFixed(1)} MB`;
}

function fileName({ name, digest, media_type: type }: Artifact): string {
  return name || `${digest.slice(7, 19)}${type === TABLES[0] ? ".arrow" : type === TABLES[1] ? ".npy" : ""}`;
}
