// Who asks, and who decides: the key of this tab, and the name with which decisions are recorded, where the key has none of its own.
import { signal } from "@preact/signals";
import { get } from "../api/client";
import type { Me, Scope } from "../api/types";

const NAME = "firmplan.name";

export const personName = signal(localStorage.getItem(NAME) ?? "");

export function setPersonName(name: string): void {
  personName.value = name.trim();
  localStorage.setItem(NAME, personName.value);
}

/** The key; `null` as long as the server has not said what it is. */
export const me = signal<Me | null>(null);

/** Ask what the key is. Without an answer the page offers everything, and the server refuses what the key may not do. */
export async function readMe(): Promise<void> {
  me.value = await get<Me>("v1/me").catch(() => null);
}

/** Why the key may not do what needs a scope; `null`: it may. */
export function barredFrom(scope: Scope): string | null {
  if (me.value === null || me.value.scopes.includes(scope)) return null;
  return `${myKey(me.value)} has no scope '${scope}': ask whoever runs this server for a key that has it.`;
}

/** Why the key may not approve calls of a run; `null`: it may. */
export function barredFromApproving(submitter: string | null): string | null {
  const barred = barredFrom("approve");
  if (barred !== null || me.value === null || submitter === null || submitter !== me.value.name || me.value.may_approve_own) return barred;
  return `${myKey(me.value)} submitted this run, so somebody else has to approve its calls.`;
}

const myKey = ({ name }: Me): string => (name === null ? "This key" : `The key of ${name}`);
