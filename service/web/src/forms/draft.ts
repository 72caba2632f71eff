// What a person has filled in so far. A draft gives JSON text, not a value: what is typed as a number leaves the page digit for digit.
import { signal, type Signal } from "@preact/signals";
import { ExactJson, jsonText, parseExact } from "../api/json";
import type { Json, JsonObject } from "../api/types";
import { alternativesIn, isObject, shapeOf, type Shape } from "./shape";

export type Part = string | number;

export interface Fault {
  draft: Draft;
  message: string;
}

interface Common {
  shape: Shape;
  isRequired: boolean;
  isNull: Signal<boolean>;
  /** Whether an optional object, list or choice is there. Single values are there if something is filled in. */
  isGiven: Signal<boolean>;
  errors: Signal<readonly string[]>;
}

export interface TextDraft extends Common {
  holds: "text";
  text: Signal<string>;
  /** The text as it began, and the JSON that it stands for: a value that nobody touches stays as it is. */
  untouched: { text: string; json: string } | null;
}

export interface ObjectDraft extends Common {
  holds: "fields";
  fields: readonly { name: string; draft: Draft }[];
  /** The members that the schema does not name. */
  rest: TextDraft | null;
}

export interface Row {
  id: number;
  /** The key, in a map. */
  key: Signal<string>;
  draft: Draft;
}

export interface RowsDraft extends Common {
  holds: "rows";
  rows: Signal<readonly Row[]>;
  add: () => Row;
}

export interface ChoiceDraft extends Common {
  holds: "choice";
  options: readonly Shape[];
  chosen: Signal<number>;
  draft: Signal<Draft>;
  choose: (option: number) => void;
}

export type Draft = TextDraft | ObjectDraft | RowsDraft | ChoiceDraft;

let rowCount = 0;

/** Begin a draft. `given`: the value that it begins with; without one, the schema's default. */
export function draftOf(schema: Json | undefined, root: JsonObject, given?: Json, isRequired = true, level = 0): Draft {
  return draftOfShape(shapeOf(schema, root, level), root, given, isRequired, level);
}

function draftOfShape(shape: Shape, root: JsonObject, given: Json | undefined, isRequired: boolean, level: number): Draft {
  const { schema, kind } = shape;
  const first = given !== undefined ? given : schema.default;
  const common: Common = {
    shape,
    isRequired,
    isNull: signal(first === null && shape.isNullable),
    isGiven: signal(isRequired || first !== undefined),
    errors: signal([]),
  };
  switch (kind) {
    case "object": {
      const value = isObject(first) ? first : {};
      const properties = schema.properties as JsonObject;
      const required = Array.isArray(schema.required) ? schema.required : [];
      const fields = Object.entries(properties).map(([name, inner]) => ({
        name,
        draft: draftOf(inner, root, own(value, name), required.includes(name), level + 1),
      }));
      const others = Object.fromEntries(Object.entries(value).filter(([name]) => !Object.hasOwn(properties, name)));
      const rest = Object.keys(others).length ? (draftOf({ title: "Other fields" }, root, others, false, level + 1) as TextDraft) : null;
      return { ...common, holds: "fields", fields, rest };
    }
    case "list":
    case "map": {
      const inner = kind === "list" ? (schema.items ?? {}) : schema.additionalProperties;
      const rowOf = (key: string, value?: Json): Row => ({ id: ++rowCount, key: signal(key), draft: draftOf(inner, root, value, true, level + 1) });
      const known: Row[] =
        kind === "list"
          ? (Array.isArray(first) ? first : []).map((value) => rowOf("", value))
          : Object.entries(isObject(first) ? first : {}).map(([key, value]) => rowOf(key, value));
      // A list that needs items begins with their fields.
      const wanted = common.isGiven.peek() && kind === "list" && typeof schema.minItems === "number" ? Math.min(schema.minItems, 10) : 0;
      while (known.length < wanted) known.push(rowOf(""));
      const rows = signal<readonly Row[]>(known);
      const add = (): Row => {
        const row = rowOf("");
        rows.value = [...rows.peek(), row];
        return row;
      };
      return { ...common, holds: "rows", rows, add };
    }
    case "choice": {
      const options = alternativesIn(schema)!.map((each) => shapeOf(each, root, level));
      const fitting = first === undefined ? 0 : Math.max(0, options.findIndex((each) => seemsToFit(first, each)));
      const begin = (option: number, value?: Json): Draft => draftOfShape(options[option]!, root, value, true, level + 1);
      const chosen = signal(fitting);
      const draft = signal(begin(fitting, first));
      const choose = (option: number): void => {
        chosen.value = option;
        draft.value = begin(option);
      };
      return { ...common, holds: "choice", options, chosen, draft, choose };
    }
    default: {
      const text = first === undefined || (first === null && shape.isNullable) ? "" : textOf(first, shape);
      const untouched = text === "" ? null : { text, json: jsonText(first) };
      return { ...common, holds: "text", text: signal(text), untouched };
    }
  }
}

function own(value: JsonObject, name: string): Json | undefined {
  return Object.hasOwn(value, name) ? value[name] : undefined;
}

/** The text in a field for a value. */
function textOf(value: Json, shape: Shape): string {
  switch (shape.kind) {
    case "select": {
      const at = (shape.schema.enum as Json[]).findIndex((each) => jsonText(each) === jsonText(value));
      return at < 0 ? "" : String(at);
    }
    case "text":
    case "date":
      return typeof value === "string" ? value : jsonText(value);
    case "date-time":
      return typeof value === "string" ? localTime(value) : "";
    case "json":
      return jsonText(value, 2);
    default:
      return value instanceof ExactJson ? value.source : String(value);
  }
}

function seemsToFit(value: Json, { kind, schema }: Shape): boolean {
  switch (kind) {
    case "fixed":
      return jsonText(schema.const) === jsonText(value);
    case "select":
      return textOf(value, { kind, schema } as Shape) !== "";
    case "object": {
      if (!isObject(value)) return false;
      const required = Array.isArray(schema.required) ? schema.required : [];
      const isTold = Object.entries(schema.properties as JsonObject).every(
        ([name, inner]) => !isObject(inner) || !("const" in inner) || jsonText(own(value, name)) === jsonText(inner.const),
      );
      return isTold && required.every((name) => Object.hasOwn(value, String(name)));
    }
    case "map":
      return isObject(value);
    case "list":
      return Array.isArray(value);
    case "boolean":
      return typeof value === "boolean";
    case "number":
    case "integer":
      return (typeof value === "number" && (kind === "number" || Number.isInteger(value))) || value instanceof ExactJson;
    case "text":
    case "date":
    case "date-time":
      return typeof value === "string";
    default:
      return true;
  }
}

// --- from a draft to JSON

/** The JSON text of a draft, or `undefined` if it is left out; what is wrong with it goes to `faults`. */
export function written(draft: Draft, faults: Fault[]): string | undefined {
  if (draft.isNull.peek()) return "null";
  if (draft.holds !== "text" && !draft.isGiven.peek()) return undefined;
  switch (draft.holds) {
    case "text":
      return writtenText(draft, faults);
    case "choice":
      return written(draft.draft.peek(), faults);
    case "fields": {
      const members = draft.fields.map(({ name, draft: inner }) => [name, written(inner, faults)] as const);
      const rest = draft.rest && draft.rest.text.peek().trim() ? writtenText(draft.rest, faults) : undefined;
      const others = rest === undefined ? [] : Object.entries(isObject(parseExact(rest)) ? (parseExact(rest) as JsonObject) : {});
      return objectText([...members, ...others.map(([name, value]) => [name, jsonText(value)] as const)]);
    }
    case "rows": {
      const rows = draft.rows.peek();
      if (draft.shape.kind === "list") return `[${rows.map((row) => written(row.draft, faults) ?? "null").join(",")}]`;
      const keys = rows.map((row) => row.key.peek());
      if (new Set(keys).size < keys.length) faults.push({ draft, message: "expected each key once" });
      return objectText(rows.map((row) => [row.key.peek(), written(row.draft, faults)] as const));
    }
  }
}

function objectText(members: readonly (readonly [string, string | undefined])[]): string {
  return `{${members.flatMap(([name, text]) => (text === undefined ? [] : [`${JSON.stringify(name)}:${text}`])).join(",")}}`;
}

const NUMBER = /^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$/;

function writtenText(draft: TextDraft, faults: Fault[]): string | undefined {
  const { shape, isRequired, untouched } = draft;
  const text = draft.text.peek();
  const wrong = (message: string): undefined => void faults.push({ draft, message });
  if (untouched && text === untouched.text) return untouched.json;
  if (shape.kind === "fixed") return text === "" && !isRequired ? undefined : jsonText(shape.schema.const);
  if (shape.kind === "text") return text === "" && !isRequired ? undefined : JSON.stringify(text);
  if (text.trim() === "") return isRequired ? wrong(EMPTY[shape.kind] ?? "expected a value, found none") : undefined;
  switch (shape.kind) {
    case "select":
      return jsonText((shape.schema.enum as Json[])[Number(text)]);
    case "boolean":
      return text;
    case "number":
    case "integer": {
      const number = text.trim().replace(/^\+/, "");
      if (!NUMBER.test(number)) return wrong(`expected ${shape.kind === "integer" ? "an integer" : "a number"}, found ${JSON.stringify(text)}`);
      return number;
    }
    case "date-time": {
      const at = new Date(text);
      return Number.isNaN(at.getTime()) ? wrong("expected a date and a time") : JSON.stringify(zonedTime(text));
    }
    case "json":
      try {
        return jsonText(parseExact(text));
      } catch (error) {
        return wrong(`expected JSON: ${(error as Error).message}`);
      }
    default:
      return JSON.stringify(text);
  }
}

const EMPTY: Partial<Record<Shape["kind"], string>> = {
  number: "expected a number, found none",
  integer: "expected an integer, found none",
  date: "expected a date, found none",
  "date-time": "expected a date and a time, found none",
  select: "expected a choice, found none",
  boolean: "expected yes or no, found neither",
  json: "expected JSON, found nothing",
};

// --- dates: the browser's field has the local time, without a zone

const two = (number: number): string => String(number).padStart(2, "0");

function localTime(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return "";
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}T${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

/** A local time with its zone: `2026-12-01T08:00:00+01:00`. */
export function zonedTime(text: string): string {
  const minutes = -new Date(text).getTimezoneOffset();
  const zone = `${minutes < 0 ? "-" : "+"}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
  return `${text.length === 16 ? `${text}:00` : text}${zone}`;
}

// --- problems that the server found

const PART = /\.([^.[\]]+)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]/y;

/** The parts of a place, as the server writes it: `.kids[0]["any key"]`. */
export function partsOf(place: string): Part[] {
  const parts: Part[] = [];
  PART.lastIndex = 0;
  for (let found = PART.exec(place); found; found = PART.exec(place)) {
    parts.push(found[1] ?? (found[2] !== undefined ? Number(found[2]) : (JSON.parse(found[3]!) as string)));
  }
  return parts;
}

/** The draft at a place, or the nearest one around it. */
export function draftAt(draft: Draft, parts: readonly Part[]): Draft {
  if (draft.holds === "choice") return draftAt(draft.draft.peek(), parts);
  const [part, ...rest] = parts;
  if (part === undefined) return draft;
  if (draft.holds === "fields") {
    const found = draft.fields.find(({ name }) => name === part)?.draft ?? draft.rest;
    return found ? draftAt(found, rest) : draft;
  }
  if (draft.holds === "rows") {
    const rows = draft.rows.peek();
    const row = typeof part === "number" ? rows[part] : rows.find((each) => each.key.peek() === part);
    return row ? draftAt(row.draft, rest) : draft;
  }
  return draft;
}

export function clearErrors(draft: Draft): void {
  if (draft.errors.peek().length) draft.errors.value = [];
  if (draft.holds === "choice") clearErrors(draft.draft.peek());
  else if (draft.holds === "fields") for (const each of draft.fields) clearErrors(each.draft);
  else if (draft.holds === "rows") for (const each of draft.rows.peek()) clearErrors(each.draft);
}
