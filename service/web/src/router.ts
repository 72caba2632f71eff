// Which view the address names. Addresses are in the hash (`#/runs/RUN?step=mail`), so that they work at any path of a proxy, and the
// server has one document to send. The history is the browser's: links are plain `<a href>`, and the back button works by itself.
import { computed, signal } from "@preact/signals";

export interface Address {
  /** The decoded parts of the path: `["runs", "run_1"]`. */
  parts: string[];
  query: URLSearchParams;
}

const hash = signal(location.hash);
window.addEventListener("hashchange", () => (hash.value = location.hash));

export const address = computed<Address>(() => read(hash.value));

function read(text: string): Address {
  const inner = text.replace(/^#/, "");
  // Links to a run were `#RUN` before the page had several views.
  if (inner && !inner.startsWith("/")) return { parts: ["runs", decoded(inner)], query: new URLSearchParams() };
  const [path = "", query = ""] = inner.split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { parts: parts.length ? parts : ["runs"], query: new URLSearchParams(query) };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** The address of a view, for `href`: `href(["runs", id], { step: "mail" })`. Empty values are left out. */
export function href(parts: string[], query: Record<string, string | null | undefined> = {}): string {
  const found = Object.entries(query).filter((entry): entry is [string, string] => Boolean(entry[1]));
  const text = new URLSearchParams(found).toString();
  return `#/${parts.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Go to another view; the back button returns. */
export function go(parts: string[], query: Record<string, string | null | undefined> = {}): void {
  location.hash = href(parts, query);
}

/** Change parts of the query in place: `null` removes one. With `replace` the back button does not return to the former state. */
export function setQuery(changes: Record<string, string | null>, replace = false): void {
  const { parts, query } = address.peek();
  const next = Object.fromEntries([...query.entries(), ...Object.entries(changes)]);
  const to = href(parts, next);
  if (to === location.hash) return;
  if (replace) {
    history.replaceState(null, "", to);
    hash.value = to;
  } else location.hash = to;
}
