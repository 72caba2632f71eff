// A button that asks for something first.
import type { ComponentChildren, JSX } from "preact";
import { useState } from "preact/hooks";
import { Button } from "../ui/controls";
import { Dialog } from "../ui/dialog";
import { Text } from "../ui/text";

/** A button that asks for a text; Ctrl-Enter sends it, too. */
export function Ask(props: { label: string; question: string; look?: "primary" | "danger"; verb?: string; barred?: string | null; onAnswer: (text: string) => void }): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  const [text, setText] = useState("");
  const send = (): void => {
    setOpen(false);
    props.onAnswer(text);
  };
  return (
    <>
      <Button look={props.look ?? "plain"} data-verb={props.verb} barred={props.barred ?? null} onClick={() => setOpen(true)}>
        {props.label}
      </Button>
      {isOpen ? (
        <Dialog title={props.label} onClose={() => setOpen(false)}>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              send();
            }}
            onKeyDown={(event) => {
              if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
            }}
          >
            <label class="field">
              <Text of={props.question} />
              <textarea rows={4} value={text} onInput={(event) => setText(event.currentTarget.value)} />
            </label>
            <div class="row">
              <Button look="primary" type="submit">
                {props.label}
              </Button>
              <Button onClick={() => setOpen(false)}>Not now</Button>
            </div>
          </form>
        </Dialog>
      ) : null}
    </>
  );
}

/** A button that opens something with a form in a dialog. */
export function Opens(props: { label: string; title: string; verb?: string; look?: "primary"; barred?: string | null; children: (close: () => void) => ComponentChildren }): JSX.Element {
  const [isOpen, setOpen] = useState(false);
  return (
    <>
      <Button look={props.look ?? "plain"} data-verb={props.verb} barred={props.barred ?? null} onClick={() => setOpen(true)}>
        {props.label}
      </Button>
      {isOpen ? (
        <Dialog title={props.title} wide onClose={() => setOpen(false)}>
          {props.children(() => setOpen(false))}
        </Dialog>
      ) : null}
    </>
  );
}
