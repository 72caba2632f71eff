// Who decides: the name with which decisions are recorded, where the key has none of its own.
import { signal } from "@preact/signals";

const NAME = "firmplan.name";

export const personName = signal(localStorage.getItem(NAME) ?? "");

export function setPersonName(name: string): void {
  personName.value = name.trim();
  localStorage.setItem(NAME, personName.value);
}
