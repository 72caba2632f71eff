// A form made from a JSON Schema. The server stays the judge of what fits: its problems are shown at the fields that they are about.
import type { ComponentChildren, JSX } from "preact";
import { useId, useMemo, useRef, useState } from "preact/hooks";
import { Problem } from "../api/client";
import { ExactJson, jsonText, parseExact } from "../api/json";
import type { Json, JsonObject } from "../api/types";
import { Button } from "../ui/controls";
import { Text } from "../ui/text";
import { clearErrors, draftAt, draftOf, partsOf, written, type Draft, type Fault } from "./draft";
import { Field, Members } from "./fields";

export interface SchemaFormProps {
  schema: Json;
  /** The document that references in the schema point into; the schema itself if left out. */
  root?: JsonObject;
  /** The value that the form begins with. */
  given?: Json;
  /** What is asked for. */
  label: string;
  submit: string;
  /** Where the value stands in the request: the server's problems below it are those of fields. */
  place: string;
  /** Why the button does nothing; `null`: it submits. */
  barred?: string | null;
  /** Send the value. What it raises is shown in the form. */
  onSubmit: (value: ExactJson) => Promise<unknown>;
  /** More buttons, after the one that submits. */
  children?: ComponentChildren;
}

export function SchemaForm(props: SchemaFormProps): JSX.Element {
  const root = props.root ?? (props.schema as JsonObject);
  const first = useMemo(() => draftOf(props.schema, root, props.given), []);
  const [draft, setDraft] = useState<Draft>(first);
  const [text, setText] = useState<string | null>(null);
  const [errors, setErrors] = useState<readonly string[]>([]);
  const [isSending, setSending] = useState(false);
  const form = useRef<HTMLFormElement>(null);
  const id = useId();

  const show = (fields: readonly Fault[], others: readonly string[]): void => {
    for (const { draft: at, message } of fields) at.errors.value = [...at.errors.peek(), message];
    setErrors(others);
    requestAnimationFrame(() => focusFault(form.current));
  };
  const value = (): string | null => {
    clearErrors(draft);
    setErrors([]);
    if (text !== null) {
      try {
        return jsonText(parseExact(text));
      } catch (error) {
        show([], [`expected JSON: ${(error as Error).message}`]);
        return null;
      }
    }
    const faults: Fault[] = [];
    const json = written(draft, faults) ?? "null";
    if (faults.length) show(faults, []);
    return faults.length ? null : json;
  };
  const submit = async (): Promise<void> => {
    const json = value();
    if (json === null || isSending || props.barred) return;
    setSending(true);
    try {
      await props.onSubmit(new ExactJson(json));
    } catch (error) {
      const { fields, others } = faultsOf(error, text === null ? draft : null, props.place);
      show(fields, others);
    } finally {
      setSending(false);
    }
  };
  const toggle = (): void => {
    if (text === null) {
      setText(jsonText(parseExact(written(draft, []) ?? "null"), 2));
      setErrors([]);
      return;
    }
    const json = value();
    if (json === null) return;
    setDraft(draftOf(props.schema, root, parseExact(json)));
    setText(null);
  };
  return (
    <form
      ref={form}
      noValidate
      onSubmit={(event) => {
        event.preventDefault();
        void submit();
      }}
      onKeyDown={(event) => {
        if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) void submit();
      }}
    >
      {/* A group, and not a named form: of forms that are landmarks, each needs a name of its own. */}
      <div class="schema-form" role="group" aria-label={props.label}>
      {text !== null ? (
        <div class="form-field">
          <label for={id}>
            <Text of={props.label} />, as JSON
          </label>
          <textarea
            id={id}
            class="is-code"
            rows={8}
            spellcheck={false}
            aria-invalid={errors.length > 0}
            aria-describedby={`${id}-errors`}
            value={text}
            onInput={(event) => setText(event.currentTarget.value)}
          />
        </div>
      ) : draft.holds === "fields" && !draft.shape.isNullable ? (
        <>
          <Members draft={draft} />
          <RootErrors draft={draft} />
        </>
      ) : (
        <Field draft={draft} name={props.label} />
      )}
      <div id={`${id}-errors`} role="alert">
        {errors.map((each, at) => (
          <p class="problem" key={at}>
            <Text of={each} />
          </p>
        ))}
      </div>
      <div class="row">
        <Button look="primary" type="submit" disabled={isSending} barred={props.barred ?? null}>
          {props.submit}
        </Button>
        {props.children}
        <span class="grow" />
        <Button look="quiet" onClick={toggle}>
          {text === null ? "Edit as JSON" : "Edit in fields"}
        </Button>
      </div>
      </div>
    </form>
  );
}

function RootErrors({ draft }: { draft: Draft }): JSX.Element | null {
  if (draft.errors.value.length === 0) return null;
  return (
    <div class="form-errors" role="alert">
      {draft.errors.value.map((each, at) => (
        <div key={at}>
          <Text of={each} />
        </div>
      ))}
    </div>
  );
}

/** The problems of the server: those of a field, and all others. */
function faultsOf(error: unknown, draft: Draft | null, place: string): { fields: Fault[]; others: string[] } {
  const problems = error instanceof Problem ? error.problems.filter((each) => each.severity !== "warning") : [];
  if (problems.length === 0) return { fields: [], others: [error instanceof Error ? error.message : String(error)] };
  const fields: Fault[] = [];
  const others: string[] = [];
  for (const { path, message, hint } of problems) {
    const said = hint ? `${message} (${hint})` : message;
    if (draft && path.startsWith(place)) fields.push({ draft: draftAt(draft, partsOf(path.slice(place.length))), message: said });
    else others.push(`${path}: ${said}`);
  }
  return { fields, others };
}

function focusFault(form: HTMLFormElement | null): void {
  form?.querySelector<HTMLElement>("[aria-invalid=true], [data-invalid=true]")?.focus();
}
