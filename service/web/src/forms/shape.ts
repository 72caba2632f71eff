// What a JSON Schema asks of a person: the kind of field that fits it. A schema that no field fits is asked for as JSON; the server validates.
import type { Json, JsonObject } from "../api/types";

export interface Shape {
  kind: "object" | "map" | "list" | "select" | "boolean" | "number" | "integer" | "text" | "date" | "date-time" | "choice" | "fixed" | "json";
  /** The schema, without references and without null. */
  schema: JsonObject;
  title: string;
  description: string;
  isNullable: boolean;
}

const REFERENCES_MAX = 20;
/** Deeper than this a value is asked for as JSON. */
const LEVELS_MAX = 8;
/** Keywords with which a schema asks for more than a field can show; the value is written as JSON. */
const BEYOND = ["not", "if", "patternProperties", "prefixItems", "propertyNames", "dependentSchemas", "dependentRequired"];

export function shapeOf(given: Json | undefined, root: JsonObject, level = 0): Shape {
  const { schema, isNullable } = withoutNull(resolved(given, root), root);
  return {
    kind: level > LEVELS_MAX ? "json" : kindOf(schema),
    schema,
    title: typeof schema.title === "string" ? schema.title : "",
    description: typeof schema.description === "string" ? schema.description : "",
    isNullable,
  };
}

function kindOf(schema: JsonObject): Shape["kind"] {
  if ("const" in schema) return "fixed";
  if (Array.isArray(schema.enum)) return "select";
  if (BEYOND.some((keyword) => keyword in schema)) return "json";
  if (alternativesIn(schema) !== null) return "choice";
  if ("anyOf" in schema || "oneOf" in schema || "allOf" in schema) return "json";
  switch (schema.type) {
    case "object":
      if (isObject(schema.properties) && Object.keys(schema.properties).length) return "object";
      return isObject(schema.additionalProperties) ? "map" : "json";
    case "array":
      return isObject(schema.items) || schema.items === undefined ? "list" : "json";
    case "boolean":
    case "number":
    case "integer":
      return schema.type;
    case "string":
      return schema.format === "date" || schema.format === "date-time" ? schema.format : "text";
    default:
      return isObject(schema.properties) ? "object" : "json";
  }
}

/** The schemas of which one is chosen; `null`: there is nothing to choose. */
export function alternativesIn(schema: JsonObject): JsonObject[] | null {
  const { anyOf, oneOf, type, ...rest } = schema;
  const listed = anyOf ?? oneOf;
  if (Array.isArray(listed) && !(anyOf && oneOf)) return listed.map((each) => (isObject(each) ? each : {}));
  return Array.isArray(type) ? type.map((each) => ({ ...rest, type: each })) : null;
}

/** In a few words what an alternative is, for the menu in which it is chosen. */
export function nameOf(shape: Shape): string {
  if (shape.title) return shape.title;
  const { schema } = shape;
  switch (shape.kind) {
    case "fixed":
      return JSON.stringify(schema.const);
    case "object": {
      // Alternatives are often told apart by a field with one value.
      const named = Object.values(schema.properties as JsonObject).find((each) => isObject(each) && typeof each.const === "string");
      return isObject(named ?? null) ? String((named as JsonObject).const) : Object.keys(schema.properties as JsonObject).join(", ");
    }
    case "list":
      return "list";
    case "map":
      return "object";
    case "json":
      return "JSON";
    case "select":
      return "one of a list";
    default:
      return shape.kind;
  }
}

export function isObject(value: Json | undefined): value is JsonObject {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

function resolved(given: Json | undefined, root: JsonObject): JsonObject {
  let schema = isObject(given) ? given : {};
  for (let count = 0; typeof schema.$ref === "string" && count < REFERENCES_MAX; count++) {
    const { $ref, ...beside } = schema;
    const target = pointed(root, $ref as string);
    if (target === null) return beside;
    schema = { ...target, ...beside };
  }
  return merged(schema, root);
}

/** The target of a reference into the same document; `null`: it has none. */
function pointed(root: JsonObject, reference: string): JsonObject | null {
  if (!reference.startsWith("#")) return null;
  let found: Json | undefined = root;
  for (const part of reference.slice(1).split("/").slice(1)) {
    const name = decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~");
    found = isObject(found) && Object.hasOwn(found, name) ? found[name] : undefined;
  }
  return isObject(found) ? found : null;
}

/** One schema of those in `allOf`, where they are objects; else the schema as it is. */
function merged(schema: JsonObject, root: JsonObject): JsonObject {
  const { allOf, ...rest } = schema;
  if (!Array.isArray(allOf)) return schema;
  const parts = allOf.map((each) => resolved(each, root));
  if (parts.length === 1) return { ...parts[0], ...rest };
  if (!parts.every((each) => isObject(each.properties))) return schema;
  const all = [...parts, rest];
  const properties = Object.assign({}, ...all.map((each) => each.properties ?? {})) as JsonObject;
  const required = all.flatMap((each) => (Array.isArray(each.required) ? each.required : []));
  return { ...rest, type: "object", properties, required };
}

function withoutNull(schema: JsonObject, root: JsonObject): { schema: JsonObject; isNullable: boolean } {
  const { type, ...rest } = schema;
  // A list of values says by itself whether null is one.
  if (Array.isArray(schema.enum)) return { schema, isNullable: false };
  if (Array.isArray(type) && type.includes("null")) {
    const left = type.filter((each) => each !== "null");
    return { schema: { ...rest, type: left.length === 1 ? left[0]! : left }, isNullable: true };
  }
  for (const keyword of ["anyOf", "oneOf"] as const) {
    const listed = schema[keyword];
    if (!Array.isArray(listed)) continue;
    const left = listed.filter((each) => !isNull(resolved(each, root)));
    const { [keyword]: _, ...beside } = schema;
    if (left.length === 1) {
      const only = withoutNull({ ...resolved(left[0], root), ...beside }, root);
      return { schema: only.schema, isNullable: only.isNullable || left.length < listed.length };
    }
    if (left.length < listed.length) return { schema: { ...beside, [keyword]: left }, isNullable: true };
  }
  return { schema, isNullable: false };
}

function isNull(schema: JsonObject): boolean {
  return schema.type === "null" || schema.const === null;
}
