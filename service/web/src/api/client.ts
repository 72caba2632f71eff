// Requests to this server. Paths are relative, so that the page works behind a prefix of a proxy.
//
// The key lives in the session storage: it survives a reload, and is gone with the tab. It goes out in the header Authorization alone.
import { signal } from "@preact/signals";
import { jsonText, parseExact } from "./json";

const KEY = "firmplan.key";

/** The API key of this tab; empty: none. */
export const apiKey = signal(sessionStorage.getItem(KEY) ?? "");

/** Whether the server refused the key, or wants one. */
export const isKeyRefused = signal(false);

export function setApiKey(key: string): void {
  apiKey.value = key;
  isKeyRefused.value = false;
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** What the server answers instead: `application/problem+json`. */
export class Problem extends Error {
  override name = "Problem";
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly problems: { code: string; path: string; message: string; hint: string; severity: string }[] = [],
  ) {
    super(message);
  }
}

export interface Asked {
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** Send a request; raises `Problem` if the answer is none of 2xx. */
export async function request(method: string, path: string, asked: Asked = {}): Promise<Response> {
  const headers: Record<string, string> = { ...asked.headers };
  if (apiKey.value) headers.Authorization = `Bearer ${apiKey.value}`;
  const init: RequestInit = { method, headers };
  if (asked.signal) init.signal = asked.signal;
  if (asked.body !== undefined) {
    headers["Content-Type"] = "application/json";
    init.body = jsonText(asked.body);
  }
  const answer = await fetch(path, init);
  if (answer.status === 401) isKeyRefused.value = true;
  if (!answer.ok) {
    const said = await answer.json().catch(() => ({}));
    throw new Problem(
      answer.status,
      said.code ?? "no-answer",
      said.detail ?? `${answer.status} ${answer.statusText}`,
      said.problems ?? [],
    );
  }
  isKeyRefused.value = false;
  return answer;
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
  return (await request("GET", path, signal ? { signal } : {})).json();
}

/** As `get`, with every number as the server wrote it: for what a person decides about. */
export async function getExact<T>(path: string, signal?: AbortSignal): Promise<T> {
  return parseExact(await (await request("GET", path, signal ? { signal } : {})).text()) as T;
}

export async function post<T>(path: string, body: unknown = {}): Promise<T> {
  return (await request("POST", path, { body })).json();
}

/** The path of a run's resource: `runPath(id, "steps", path, "approve")`. */
export function runPath(id: string, ...parts: string[]): string {
  return ["v1/runs", id, ...parts].map((part, at) => (at ? encodeURIComponent(part) : part)).join("/");
}
