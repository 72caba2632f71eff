// The inputs of a plan as one schema, for a form.
import type { Json, JsonObject } from "../api/types";
import { isObject } from "../forms/shape";

/** Inputs that have neither a default nor a value from the clock have to be given. */
export function inputsSchema(plan: JsonObject): JsonObject {
  const given = isObject(plan.inputs) ? plan.inputs : {};
  const inputs: JsonObject = Object.fromEntries(Object.entries(given).map(([name, schema]) => [name, withHint(schema)]));
  const required = Object.entries(inputs)
    .filter(([, schema]) => isObject(schema) && !("default" in schema) && !("x-given" in schema))
    .map(([name]) => name);
  return { type: "object", properties: inputs, required };
}

function withHint(schema: Json): Json {
  return isObject(schema) && "x-given" in schema ? { description: "Left out, it is today's date, in UTC", ...schema } : schema;
}

export const hasInputs = (plan: JsonObject): boolean => isObject(plan.inputs) && Object.keys(plan.inputs).length > 0;
