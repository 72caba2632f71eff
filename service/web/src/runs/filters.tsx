// Which runs the list shows. The filter is in the address, so that a filtered list is a link, and the back button returns to the former one.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api/client";
import { address, setQuery } from "../router";
import { Button } from "../ui/controls";
import { useKeys } from "../ui/keys";
import { statusWord } from "../ui/status";
import type { RunStatus } from "../api/types";

const STATUSES: readonly RunStatus[] = [
  "queued",
  "running",
  "waiting",
  "indeterminate",
  "over_budget",
  "parked",
  "succeeded",
  "failed",
  "cancelled",
];
const AGES: readonly (readonly [key: string, name: string, seconds: number])[] = [
  ["1h", "last hour", 3_600],
  ["24h", "last 24 hours", 86_400],
  ["7d", "last 7 days", 7 * 86_400],
  ["30d", "last 30 days", 30 * 86_400],
];
/** Parts of the address that are filters; `cursor` is the page, and starts anew when a filter changes. */
const NAMES = ["status", "text", "plan", "age", "since", "until", "usd_min"] as const;
const TYPING_MS = 300;

/** What the server is asked for, by the address. */
export function filterOf(query: URLSearchParams): URLSearchParams {
  const asked = new URLSearchParams({ limit: "50" });
  for (const name of ["status", "text", "plan", "usd_min", "cursor"]) if (query.get(name)) asked.set(name, query.get(name)!);
  const age = AGES.find(([key]) => key === query.get("age"));
  // Rounded, so that the question stays the same for a while.
  if (age) asked.set("since", String(Math.floor((Date.now() / 1000 - age[2]) / 60) * 60));
  for (const name of ["since", "until"]) {
    const at = Date.parse(query.get(name) ?? "");
    if (!Number.isNaN(at)) asked.set(name, String(at / 1000));
  }
  return asked;
}

export const isFiltered = (query: URLSearchParams): boolean => NAMES.some((name) => query.get(name));

const change = (name: string, value: string): void => setQuery({ [name]: value || null, cursor: null });

export function Filters(): JSX.Element {
  const { query } = address.value;
  const search = useRef<HTMLInputElement>(null);
  const timer = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  const plans = usePlanNames();
  useKeys([{ keys: "/", what: "Search the runs", run: () => search.current?.focus() }]);
  const isDates = query.get("age") === "dates" || query.has("since") || query.has("until");
  return (
    <form class="filters" role="search" onSubmit={(event) => event.preventDefault()}>
      <input
        ref={search}
        type="search"
        aria-label="Text in the task or the id"
        placeholder="Search tasks and ids"
        value={query.get("text") ?? ""}
        onInput={(event) => {
          const words = event.currentTarget.value.trim();
          clearTimeout(timer.current);
          // Typing replaces the address: the back button returns to the list before the search.
          timer.current = setTimeout(() => setQuery({ text: words || null, cursor: null }, true), TYPING_MS);
        }}
      />
      <select aria-label="Status" value={query.get("status") ?? ""} onChange={(event) => change("status", event.currentTarget.value)}>
        <option value="">any status</option>
        {STATUSES.map((status) => (
          <option key={status} value={status}>
            {statusWord(status)}
          </option>
        ))}
      </select>
      <input
        class="filter-plan"
        aria-label="Plan: the name of a saved plan, or a digest"
        placeholder="any plan"
        list="plan-names"
        value={query.get("plan") ?? ""}
        onChange={(event) => change("plan", event.currentTarget.value.trim())}
      />
      <datalist id="plan-names">
        {plans.map((name) => (
          <option key={name} value={name} />
        ))}
      </datalist>
      <select
        aria-label="Time"
        value={isDates ? "dates" : (query.get("age") ?? "")}
        onChange={(event) => setQuery({ age: event.currentTarget.value || null, since: null, until: null, cursor: null })}
      >
        <option value="">any time</option>
        {AGES.map(([key, name]) => (
          <option key={key} value={key}>
            {name}
          </option>
        ))}
        <option value="dates">from … to …</option>
      </select>
      {isDates ? (
        <>
          <input type="datetime-local" aria-label="From" value={query.get("since") ?? ""} onChange={(event) => change("since", event.currentTarget.value)} />
          <input type="datetime-local" aria-label="To" value={query.get("until") ?? ""} onChange={(event) => change("until", event.currentTarget.value)} />
        </>
      ) : null}
      <input
        class="filter-cost"
        type="number"
        min="0"
        step="any"
        aria-label="Cost at least, in US dollars"
        placeholder="cost ≥ $"
        value={query.get("usd_min") ?? ""}
        onChange={(event) => change("usd_min", event.currentTarget.value)}
      />
      {isFiltered(query) ? (
        <Button look="quiet" onClick={() => setQuery(Object.fromEntries([...NAMES, "cursor"].map((name) => [name, null])))}>
          Clear
        </Button>
      ) : null}
    </form>
  );
}

function usePlanNames(): string[] {
  const [names, setNames] = useState<string[]>([]);
  useEffect(() => {
    get<{ plans: { name: string }[] }>("v1/plans")
      .then(({ plans }) => setNames(plans.map((plan) => plan.name)))
      .catch(() => undefined);
  }, []);
  return names;
}
