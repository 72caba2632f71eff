// Buttons, tabs, copying and messages. Each is a native element with its native keyboard behaviour.
import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";
import { useRef } from "preact/hooks";
import { visible } from "./text";

type ButtonProps = JSX.IntrinsicElements["button"] & {
  look?: "plain" | "primary" | "danger" | "quiet";
  /** Why it does nothing; `null`: it does. The button keeps its place among the others and the focus, and says it. */
  barred?: string | null;
};

export function Button({ look = "plain", class: more, barred = null, ...rest }: ButtonProps): JSX.Element {
  const refused =
    barred === null
      ? {}
      : {
          "aria-disabled": true,
          title: barred,
          onClick: (event: Event): void => {
            event.preventDefault(); // nor does it submit its form
            say(barred, true);
          },
        };
  return <button type="button" class={`button ${look} ${more ?? ""}`} {...rest} {...refused} />;
}

/** Tabs by the WAI-ARIA pattern: arrow keys choose, Tab leaves. The panel is the caller's, with `id={panelId}`. */
export function Tabs<T extends string>(props: {
  label: string;
  tabs: readonly (readonly [id: T, name: ComponentChildren])[];
  chosen: T;
  panelId: string;
  onChoose: (id: T) => void;
}): JSX.Element {
  const list = useRef<HTMLDivElement>(null);
  const ids = props.tabs.map(([id]) => id);
  function onKeyDown(event: KeyboardEvent): void {
    const at = ids.indexOf(props.chosen);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: ids.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const place = (to + ids.length) % ids.length;
    props.onChoose(ids[place]!);
    list.current?.querySelectorAll<HTMLElement>("[role=tab]")[place]?.focus();
  }
  return (
    <div class="tabs" role="tablist" aria-label={props.label} ref={list} onKeyDown={onKeyDown}>
      {props.tabs.map(([id, name]) => (
        <button
          key={id}
          type="button"
          role="tab"
          id={`${props.panelId}-tab-${id}`}
          aria-selected={id === props.chosen}
          aria-controls={props.panelId}
          tabIndex={id === props.chosen ? 0 : -1}
          onClick={() => props.onChoose(id)}
        >
          {name}
        </button>
      ))}
    </div>
  );
}

// --- messages: one polite live region for the whole page

interface Message {
  id: number;
  text: string;
  isError: boolean;
}

const messages = signal<Message[]>([]);
let lastMessage = 0;

/** Show a message for some seconds; errors stay until they are closed. */
export function say(text: string, isError = false): void {
  const id = ++lastMessage;
  messages.value = [...messages.value, { id, text, isError }];
  if (!isError) setTimeout(() => dismiss(id), 4_000);
}

function dismiss(id: number): void {
  messages.value = messages.value.filter((message) => message.id !== id);
}

/** Do some work, and show the error if there is one; returns `undefined` then. */
export async function attempt<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") return undefined;
    say(error instanceof Error ? error.message : String(error), true);
    return undefined;
  }
}

export function Messages(): JSX.Element {
  return (
    <div class="messages">
      <div role="status">
        {messages.value.filter((each) => !each.isError).map((each) => <p class="message" key={each.id}>{visible(each.text)}</p>)}
      </div>
      <div role="alert">
        {messages.value
          .filter((each) => each.isError)
          .map((each) => (
            <p class="message is-error" key={each.id}>
              <span>{visible(each.text)}</span>
              <Button look="quiet" aria-label="Close the message" onClick={() => dismiss(each.id)}>
                ✕
              </Button>
            </p>
          ))}
      </div>
    </div>
  );
}

// --- copying and downloading

export async function copyText(text: string): Promise<void> {
  await attempt(async () => {
    await navigator.clipboard.writeText(text);
    say("copied");
  });
}

export function download(name: string, data: Blob): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(data);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
