// What the calls of a step logged (`ctx.log`): the last lines, which the server has in memory.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get, runPath } from "../api/client";
import type { LogLine } from "../api/types";
import type { RunStore } from "../store/run";
import { rendered, Text } from "../ui/text";

const READ_AGAIN_MS = 2_000;

export function Log({ store, path }: { store: RunStore; path: string }): JSX.Element {
  const [lines, setLines] = useState<LogLine[] | null>(null);
  const { status, attempts } = store.step(path).value;
  useEffect(() => {
    const stop = new AbortController();
    const read = (): void =>
      void get<{ lines: LogLine[] }>(`${runPath(store.id, "log")}?${new URLSearchParams({ step: path })}`, stop.signal)
        .then((found) => setLines(found.lines))
        .catch(() => undefined);
    read();
    const timer = status === "running" ? setInterval(read, READ_AGAIN_MS) : undefined;
    return () => {
      clearInterval(timer);
      stop.abort();
    };
  }, [store, path, status, attempts]);
  if (lines === null) return <p class="empty">…</p>;
  if (lines.length === 0) return <p class="empty">No lines. The server keeps in memory what tools say with ctx.log, until it restarts.</p>;
  return (
    <ol class="log" aria-label={`log of ${path}`}>
      {lines.map((line, at) => (
        <li key={at} class={`log-line of-${line.level}`}>
          <time dateTime={new Date(line.at * 1000).toISOString()}>{new Date(line.at * 1000).toISOString().slice(11, 23)}</time>
          <span class="log-level">{line.level}</span>
          <span>
            <Text of={line.message} />
            {Object.entries(line.fields).map(([name, value]) => (
              <span class="log-field" key={name}>
                {" "}
                <Text of={`${name}=${rendered(value)}`} />
              </span>
            ))}
          </span>
        </li>
      ))}
    </ol>
  );
}
