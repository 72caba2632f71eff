// Times and durations for people.
import { signal } from "@preact/signals";
import type { JSX } from "preact";

/** Unix seconds, at most a few seconds old: for "3 minutes ago". */
export const now = signal(Date.now() / 1000);
setInterval(() => {
  if (!document.hidden) now.value = Date.now() / 1000;
}, 5_000);

const STEPS: [number, string][] = [
  [60, "s"],
  [60, "min"],
  [24, "h"],
  [Infinity, "d"],
];

/** `3 min ago`, with the exact time as its title. */
export function Ago({ at }: { at: number | null }): JSX.Element | null {
  if (at === null) return null;
  return (
    <time dateTime={new Date(at * 1000).toISOString()} title={new Date(at * 1000).toLocaleString()}>
      {ago(now.value - at)}
    </time>
  );
}

function ago(seconds: number): string {
  if (seconds < 5) return "just now";
  let amount = seconds;
  for (const [size, unit] of STEPS) {
    if (amount < size) return `${Math.floor(amount)} ${unit} ago`;
    amount /= size;
  }
  return "";
}

/** `12 ms`, `3.4 s`, `2 min 5 s`. */
export function duration(seconds: number): string {
  if (seconds < 0.0995) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 59.5) return `${Math.round(seconds)} s`;
  if (seconds < 3570) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

export function dollars(usd: number): string {
  return usd === 0 ? "$0" : usd < 0.01 ? `$${usd.toPrecision(2)}` : `$${usd.toFixed(2)}`;
}
