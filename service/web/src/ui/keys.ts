// Keys for everything: a view says which keys it has while it is shown, and the help lists them.
import { signal } from "@preact/signals";
import { useLayoutEffect } from "preact/hooks";

export interface KeyBinding {
  /** As `KeyboardEvent.key` has it; two keys one after the other: `"g r"`. */
  keys: string;
  what: string;
  run: () => void;
}

export const bindings = signal<KeyBinding[]>([]);
let prefix = "";
let prefixAt = 0;
const PREFIX_MS = 1_500;

/** Have keys while a component is shown, from its first moment on. `list` must not change between renderings but in what its functions do. */
export function useKeys(list: KeyBinding[]): void {
  useLayoutEffect(() => {
    bindings.value = [...bindings.value, ...list];
    return () => {
      bindings.value = bindings.value.filter((each) => !list.includes(each));
    };
  }, []);
}

window.addEventListener("keydown", (event) => {
  const target = event.target as HTMLElement;
  const isTyping = target.closest("input, textarea, select, [contenteditable]") !== null;
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const pressed = prefix && event.timeStamp - prefixAt < PREFIX_MS ? `${prefix} ${event.key}` : event.key;
  const found = bindings.peek().findLast((each) => each.keys === pressed);
  prefix = "";
  if (found) {
    event.preventDefault();
    found.run();
  } else if (bindings.peek().some((each) => each.keys.startsWith(`${event.key} `))) {
    prefix = event.key;
    prefixAt = event.timeStamp;
  }
});
