// One field for each part of a draft. Every field has a label, and its help and its errors belong to it for screen readers, too.
import type { ComponentChildren, JSX, TargetedEvent } from "preact";
import { useId, useRef } from "preact/hooks";
import { jsonText } from "../api/json";
import type { Json, JsonObject } from "../api/types";
import { Button } from "../ui/controls";
import { Text } from "../ui/text";
import { clearErrors, zonedTime, type ChoiceDraft, type Draft, type ObjectDraft, type RowsDraft, type TextDraft } from "./draft";
import { nameOf, type Shape } from "./shape";

interface FieldProps<D extends Draft> {
  draft: D;
  name: string;
}

export function Field({ draft, name }: FieldProps<Draft>): JSX.Element {
  switch (draft.holds) {
    case "text":
      return draft.shape.kind === "boolean" ? <YesNo draft={draft} name={name} /> : <Single draft={draft} name={name} />;
    case "fields":
      return (
        <Group draft={draft} name={name}>
          <Members draft={draft} />
        </Group>
      );
    case "rows":
      return (
        <Group draft={draft} name={name}>
          <Rows draft={draft} name={name} />
        </Group>
      );
    case "choice":
      return (
        <Group draft={draft} name={name}>
          <Choice draft={draft} name={name} />
        </Group>
      );
  }
}

const titleOf = (draft: Draft, name: string): string => draft.shape.title || name;

// --- single values

function Single({ draft, name }: FieldProps<TextDraft>): JSX.Element {
  const id = useId();
  return (
    <div class="form-field">
      <label for={id}>
        <Text of={titleOf(draft, name)} />
        <Optional draft={draft} />
      </label>
      <Help draft={draft} id={id} />
      <Control draft={draft} id={id} />
      <NullBox draft={draft} name={titleOf(draft, name)} />
      <Errors draft={draft} id={id} />
    </div>
  );
}

function Control({ draft, id }: { draft: TextDraft; id: string }): JSX.Element {
  const { shape, isRequired } = draft;
  const { schema } = shape;
  const shared = {
    id,
    disabled: draft.isNull.value,
    "aria-describedby": `${id}-help ${id}-errors`,
    "aria-invalid": draft.errors.value.length > 0,
    "aria-required": isRequired,
    value: draft.text.value,
  };
  const write = (text: string): void => {
    draft.text.value = text;
    clearErrors(draft);
  };
  const onInput = (event: TargetedEvent<HTMLInputElement | HTMLTextAreaElement>): void => write(event.currentTarget.value);
  switch (shape.kind) {
    case "select":
      return (
        <select {...shared} onChange={(event) => write(event.currentTarget.value)}>
          <option value="">{isRequired ? "choose" : "left out"}</option>
          {(schema.enum as Json[]).map((each, at) => (
            <option key={at} value={String(at)}>
              <Text of={typeof each === "string" ? each : jsonText(each)} plain />
            </option>
          ))}
        </select>
      );
    case "fixed":
      return isRequired ? (
        <output id={id}>
          <Text of={jsonText(schema.const)} />
        </output>
      ) : (
        <input type="checkbox" id={id} checked={draft.text.value !== ""} onChange={(event) => write(event.currentTarget.checked ? jsonText(schema.const) : "")} />
      );
    case "number":
    case "integer":
      // Not `type="number"`: that field hides what cannot be read as a number, and rounds what is long.
      return <input {...shared} type="text" inputMode={shape.kind === "integer" ? "numeric" : "decimal"} autoComplete="off" onInput={onInput} />;
    case "date":
      return <input {...shared} type="date" onInput={onInput} />;
    case "date-time":
      return (
        <>
          <input {...shared} type="datetime-local" step="1" onInput={onInput} />
          {draft.text.value ? <span class="soft">{zonedTime(draft.text.value)}</span> : null}
        </>
      );
    case "json":
      return <textarea {...shared} class="is-code" rows={3} spellcheck={false} onInput={onInput} />;
    default:
      return <textarea {...shared} rows={1} onInput={onInput} />;
  }
}

function YesNo({ draft, name }: FieldProps<TextDraft>): JSX.Element {
  const id = useId();
  const options = [["true", "yes"], ["false", "no"], ...(draft.isRequired ? [] : [["", "left out"]])] as [string, string][];
  return (
    <fieldset class="form-field" aria-describedby={`${id}-help ${id}-errors`} data-invalid={draft.errors.value.length > 0} tabIndex={-1}>
      <legend>
        <Text of={titleOf(draft, name)} />
        <Optional draft={draft} />
      </legend>
      <Help draft={draft} id={id} />
      <div class="row">
        {options.map(([value, word]) => (
          <label key={value} class="form-check">
            <input
              type="radio"
              name={id}
              disabled={draft.isNull.value}
              checked={draft.text.value === value}
              onChange={() => {
                draft.text.value = value;
                clearErrors(draft);
              }}
            />
            {word}
          </label>
        ))}
      </div>
      <NullBox draft={draft} name={titleOf(draft, name)} />
      <Errors draft={draft} id={id} />
    </fieldset>
  );
}

// --- values of several parts

function Group({ draft, name, children }: FieldProps<Draft> & { children: ComponentChildren }): JSX.Element {
  const id = useId();
  const title = titleOf(draft, name);
  const isShown = draft.isGiven.value && !draft.isNull.value;
  return (
    <fieldset class="form-group" aria-describedby={`${id}-help ${id}-errors`} data-invalid={draft.errors.value.length > 0} tabIndex={-1}>
      <legend>
        <Text of={title} />
        <Optional draft={draft} />
      </legend>
      <Help draft={draft} id={id} />
      {isShown ? children : null}
      <div class="row">
        {draft.isRequired ? null : (
          <Button onClick={() => (draft.isGiven.value = !draft.isGiven.value)}>
            <Text of={`${draft.isGiven.value ? "Leave out" : "Give"} ${title}`} />
          </Button>
        )}
        <NullBox draft={draft} name={title} />
      </div>
      <Errors draft={draft} id={id} />
    </fieldset>
  );
}

export function Members({ draft }: { draft: ObjectDraft }): JSX.Element {
  return (
    <div class="form-members">
      {draft.fields.map(({ name, draft: inner }) => (
        <Field key={name} draft={inner} name={name} />
      ))}
      {draft.rest ? <Field draft={draft.rest} name="Other fields" /> : null}
    </div>
  );
}

function Rows({ draft, name }: FieldProps<RowsDraft>): JSX.Element {
  const list = useRef<HTMLOListElement>(null);
  const isMap = draft.shape.kind === "map";
  const word = isMap ? "entry" : "item";
  const focusLast = (): void => list.current?.lastElementChild?.querySelector<HTMLElement>("input, textarea, select, button")?.focus();
  return (
    <>
      <ol class="form-rows" ref={list}>
        {draft.rows.value.map((row, at) => (
          <li key={row.id}>
            {isMap ? (
              <label class="form-field">
                Key
                <input type="text" value={row.key.value} onInput={(event) => (row.key.value = event.currentTarget.value)} />
              </label>
            ) : null}
            <Field draft={row.draft} name={isMap ? "Value" : `${titleOf(draft, name)} ${at + 1}`} />
            <Button look="quiet" aria-label={`Remove ${word} ${at + 1}`} title={`Remove ${word} ${at + 1}`} onClick={() => (draft.rows.value = draft.rows.value.filter((each) => each !== row))}>
              ✕
            </Button>
          </li>
        ))}
      </ol>
      <div class="row">
        <Button
          onClick={() => {
            draft.add();
            clearErrors(draft);
            requestAnimationFrame(focusLast);
          }}
        >
          <Text of={`Add ${word === "item" ? "an item" : "an entry"} to ${titleOf(draft, name)}`} />
        </Button>
      </div>
    </>
  );
}

function Choice({ draft, name }: FieldProps<ChoiceDraft>): JSX.Element {
  const id = useId();
  const names = draft.options.map(nameOf);
  const inner = draft.draft.value;
  return (
    <>
      <div class="form-field">
        <label for={id}>Kind</label>
        <select id={id} value={String(draft.chosen.value)} onChange={(event) => draft.choose(Number(event.currentTarget.value))}>
          {names.map((each, at) => (
            <option key={at} value={String(at)}>
              <Text of={each} plain />
            </option>
          ))}
        </select>
      </div>
      {inner.holds === "fields" ? <Members key={draft.chosen.value} draft={inner} /> : <Field key={draft.chosen.value} draft={inner} name={name} />}
    </>
  );
}

// --- what belongs to every field

function Optional({ draft }: { draft: Draft }): JSX.Element | null {
  return draft.isRequired ? null : <span class="soft"> (optional)</span>;
}

function NullBox({ draft, name }: { draft: Draft; name: string }): JSX.Element | null {
  if (!draft.shape.isNullable) return null;
  return (
    <label class="form-check soft">
      <input
        type="checkbox"
        aria-label={`${name} is null`}
        checked={draft.isNull.value}
        onChange={(event) => {
          draft.isNull.value = event.currentTarget.checked;
          clearErrors(draft);
        }}
      />
      null
    </label>
  );
}

function Help({ draft, id }: { draft: Draft; id: string }): JSX.Element {
  const { description, schema } = draft.shape;
  const more = [...limitsOf(draft.shape), ...("default" in schema ? [`default ${jsonText(schema.default)}`] : []), ...examplesIn(schema)].join(" · ");
  return (
    <div id={`${id}-help`} class="form-help soft">
      {description ? (
        <div>
          <Text of={description} />
        </div>
      ) : null}
      {more ? (
        <div>
          <Text of={more} />
        </div>
      ) : null}
    </div>
  );
}

function Errors({ draft, id }: { draft: Draft; id: string }): JSX.Element {
  return (
    <div id={`${id}-errors`} class="form-errors">
      {draft.errors.value.map((each, at) => (
        <div key={at}>
          <Text of={each} />
        </div>
      ))}
    </div>
  );
}

function examplesIn(schema: JsonObject): string[] {
  return Array.isArray(schema.examples) && schema.examples.length ? [`for example ${schema.examples.map((each) => jsonText(each)).join(", ")}`] : [];
}

/** What a value has to keep to, in words. */
function limitsOf({ kind, schema }: Shape): string[] {
  const between = (least: Json | undefined, most: Json | undefined, units: string): string[] => {
    const unit = (most ?? least) === 1 ? units.replace(/(?:ie)?s$/, units.endsWith("ies") ? "y" : "") : units;
    return least === undefined && most === undefined
      ? []
      : [
          most === undefined
            ? `at least ${jsonText(least)}${unit}`
            : least === undefined
              ? `at most ${jsonText(most)}${unit}`
              : `${jsonText(least)} to ${jsonText(most)}${unit}`,
        ];
  };
  switch (kind) {
    case "number":
    case "integer":
      return [
        kind,
        ...between(schema.minimum, schema.maximum, ""),
        ...(schema.exclusiveMinimum === undefined ? [] : [`more than ${jsonText(schema.exclusiveMinimum)}`]),
        ...(schema.exclusiveMaximum === undefined ? [] : [`less than ${jsonText(schema.exclusiveMaximum)}`]),
        ...(schema.multipleOf === undefined ? [] : [`a multiple of ${jsonText(schema.multipleOf)}`]),
      ];
    case "text":
      return [
        ...(typeof schema.format === "string" ? [schema.format] : []),
        ...between(schema.minLength, schema.maxLength, " characters"),
        ...(typeof schema.pattern === "string" ? [`pattern ${schema.pattern}`] : []),
      ];
    case "list":
      return [...between(schema.minItems, schema.maxItems, " items"), ...(schema.uniqueItems === true ? ["no two equal"] : [])];
    case "map":
      return between(schema.minProperties, schema.maxProperties, " entries");
    case "json":
      return [Object.keys(schema).some((each) => !["title", "description", "default"].includes(each)) ? `JSON that fits ${jsonText(schema)}` : "JSON"];
    default:
      return [];
  }
}
