// JSON without loss: JavaScript's numbers round integers past 2**53, and forget that `4.0` is a number and `4` an integer.
import type { Json } from "./types";

/** JSON as it is written: a number that JavaScript would write in another way, or all that a form gives. It may stand in any value. */
export class ExactJson {
  constructor(readonly source: string) {}
}

type Reviver = (key: string, value: unknown, context?: { source?: string }) => unknown;

/** The value of a text; numbers that JavaScript would write in another way are `ExactJson`, where the browser tells how they are written. */
export function parseExact(text: string): Json {
  const exact: Reviver = (_, value, context) =>
    typeof value === "number" && context?.source !== undefined && context.source !== String(value) ? new ExactJson(context.source) : value;
  return JSON.parse(text, exact as Parameters<typeof JSON.parse>[1]) as Json;
}

/** The text of a value, as `JSON.stringify` makes it, but with exact numbers as they are. */
export function jsonText(value: unknown, indent = 0, level = 0): string {
  if (value instanceof ExactJson) return value.source;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  const isList = Array.isArray(value);
  const parts = isList
    ? value.map((each) => jsonText(each, indent, level + 1))
    : Object.entries(value)
        .filter(([, each]) => each !== undefined)
        .map(([name, each]) => `${JSON.stringify(name)}:${indent ? " " : ""}${jsonText(each, indent, level + 1)}`);
  const [open, close] = isList ? ["[", "]"] : ["{", "}"];
  if (parts.length === 0 || !indent) return `${open}${parts.join(",")}${close}`;
  const line = (depth: number): string => `\n${" ".repeat(indent * depth)}`;
  return `${open}${line(level + 1)}${parts.join(`,${line(level + 1)}`)}${line(level)}${close}`;
}
