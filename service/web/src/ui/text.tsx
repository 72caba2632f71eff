// Text of plans, tools and models: always shown as text, never as markup, and with nothing in it that cannot be seen.
import type { JSX } from "preact";

// Control characters, marks of direction and characters without width are shown as escapes, as on the command line (plans/visible.py).
const INVISIBLE = new RegExp(
  "[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180f\\u200b-\\u200f" +
    "\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufe00-\\ufe0d\\ufeff\\uffa0\\ufff0-\\ufffb\\ud800-\\udfff\\u{1bca0}-\\u{1bca3}\\u{1d173}-\\u{1d17a}\\u{e0000}-\\u{e0fff}]|\\r(?!\\n)",
  "gu",
);

const escape = (found: string): string => `\\u{${found.codePointAt(0)!.toString(16).padStart(4, "0")}}`;

/** The text with every invisible character as an escape. */
export function visible(text: string): string {
  return text.replace(INVISIBLE, escape);
}

/** Text from outside; its escapes stand out, so that a text that itself holds `\u{202e}` looks different. */
export function Text({ of, plain = false }: { of: string; plain?: boolean }): JSX.Element {
  // An option of a menu can hold text only.
  if (plain) return <>{visible(of)}</>;
  const parts: (string | JSX.Element)[] = [];
  let shown = 0;
  for (const found of of.matchAll(INVISIBLE)) {
    parts.push(of.slice(shown, found.index));
    parts.push(
      <span class="invisible-character" title="a character that cannot be seen">
        {escape(found[0])}
      </span>,
    );
    shown = found.index + found[0].length;
  }
  parts.push(of.slice(shown));
  return <>{parts}</>;
}

/** A value as one text: texts as they are, anything else as JSON. */
export function rendered(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

export function cut(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}

export function count(number: number, noun: string): string {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}
