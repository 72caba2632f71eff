// The calls of one run that wait, in full, with the decisions about them: one by one, or several at once.
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { getExact, runPath } from "../api/client";
import type { JsonObject, Waiting, WaitingCall } from "../api/types";
import { barredFrom, barredFromApproving } from "../store/person";
import { attempt, Button, say } from "../ui/controls";
import { useKeys } from "../ui/keys";
import { count, Text } from "../ui/text";
import { Ask } from "./ask";
import { CallCard } from "./call";
import { Choices } from "./choices";
import { decide, isAboutName } from "./deciding";

/** Calls that are shown at first; more with a button, and nothing is decided that is not shown. */
const SHOWN_FIRST = 20;

interface WaitingProps {
  run: string;
  /** Says what waits: the calls are read again when it changes. */
  signature: string;
  /** Read again what the page knows, after a decision. */
  onDecided: () => Promise<void>;
}

const keyOf = (call: { step: string; attempt: number }): string => `${call.step} ${call.attempt}`;

export function WaitingOfRun({ run, signature, onDecided }: WaitingProps): JSX.Element | null {
  const [waiting, setWaiting] = useState<Waiting | null>(null);
  const [marked, setMarked] = useState<ReadonlySet<string>>(new Set());
  const [shown, setShown] = useState(SHOWN_FIRST);
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const stop = new AbortController();
    void attempt(async () => setWaiting(await getExact<Waiting>(runPath(run, "waiting"), stop.signal)));
    return () => stop.abort();
  }, [run, signature]);
  if (waiting === null) return <p class="soft">…</p>;

  const send = async (parts: string[], body: object, from: WaitingCall | null): Promise<void> => {
    const next = from === null ? null : neighbour(idOf(run, from));
    await decide(run, parts, body);
    await onDecided();
    // The card of the call goes: the focus moves on to the next one, not to the top of the page.
    requestAnimationFrame(() => focusCard(list.current, next));
  };
  const calls = waiting.calls.slice(0, shown);
  const leaves = calls.filter((call) => call.about === "call");
  const chosen = leaves.filter((call) => marked.has(keyOf(call)));
  const meant = chosen.length ? chosen : leaves;
  const words = chosen.length ? `the ${chosen.length} chosen` : `all ${meant.length}`;
  const decideMeant = (what: JsonObject): void =>
    void press(async () => {
      // All decisions are recorded or none: if somebody else has decided one meanwhile, the answer says so.
      await send(["decide"], { decisions: Object.fromEntries(meant.map((call) => [call.step, { ...what, attempt: call.attempt }])) }, null);
      setMarked(new Set());
    });
  return (
    <div class="waiting" ref={list}>
      {waiting.submitter === null ? null : (
        <p class="soft">
          submitted by <Text of={waiting.submitter} />
        </p>
      )}
      {leaves.length < 2 ? null : (
        <div class="row" role="group" aria-label="Decide about several calls">
          <Button look="primary" barred={barredFromApproving(waiting.submitter)} onClick={() => decideMeant({ approve: true })}>
            Approve {words}
          </Button>
          <Ask label={`Deny ${words}`} barred={barredFrom("approve")} question={`Why are these ${meant.length} calls denied?`} onAnswer={(reason) => decideMeant({ deny: true, reason })} />
          {chosen.length ? <Button onClick={() => setMarked(new Set())}>Choose none</Button> : null}
        </div>
      )}
      {calls.map((call) => {
        const one = (verb: string, body: object): Promise<void> => send(["steps", call.step, verb], { ...body, attempt: call.attempt }, call);
        return (
          <CallCard key={keyOf(call)} id={idOf(run, call)} call={call} mark={leaves.length < 2 || call.about !== "call" ? null : { is: marked.has(keyOf(call)), onChange: () => setMarked(toggled(marked, keyOf(call))) }}>
            <Choices call={call} submitter={waiting.submitter} decide={one} press={(verb, body) => press(() => one(verb, body))} />
          </CallCard>
        );
      })}
      {waiting.calls.length > calls.length ? (
        <Button onClick={() => setShown(shown + 100)}>Show more: {count(waiting.calls.length - calls.length, "call")} that wait are not shown, and not decided with the others</Button>
      ) : null}
    </div>
  );
}

/** Do what a button says; a refusal is a message, and one about the missing name leads to its field. */
async function press(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    say(error instanceof Error ? error.message : String(error), true);
    if (isAboutName(error)) document.querySelector<HTMLElement>("#person-name")?.focus();
  }
}

function toggled(set: ReadonlySet<string>, key: string): ReadonlySet<string> {
  const next = new Set(set);
  if (!next.delete(key)) next.add(key);
  return next;
}

// --- the keyboard

const cards = (around: ParentNode): HTMLElement[] => [...around.querySelectorAll<HTMLElement>(".call")];

const idOf = (run: string, call: WaitingCall): string => `call ${run} ${keyOf(call)}`.replaceAll(" ", "-");

/** The id of the card after one, or of the one before it. */
function neighbour(id: string): string | null {
  const every = cards(document).map((card) => card.id);
  const at = every.indexOf(id);
  return every[at + 1] ?? every[at - 1] ?? null;
}

function focusCard(list: HTMLElement | null, id: string | null): void {
  if (document.activeElement !== document.body && document.activeElement !== null) return;
  const target = (id === null ? null : document.getElementById(id)) ?? list?.closest<HTMLElement>("section") ?? document.getElementById("main");
  if (target === null) return;
  if (!target.hasAttribute("tabindex")) target.setAttribute("tabindex", "-1");
  target.focus();
}

/** Keys to go from call to call, and to press the buttons of the one that has the focus. */
export function useCallKeys(): void {
  const go = (by: number): void => {
    const every = cards(document);
    const at = every.findIndex((card) => card.contains(document.activeElement));
    every[at < 0 ? (by > 0 ? 0 : every.length - 1) : Math.min(every.length - 1, Math.max(0, at + by))]?.focus();
  };
  const push = (verb: string): void => document.activeElement?.closest(".call")?.querySelector<HTMLElement>(`[data-verb=${verb}]`)?.click();
  useKeys([
    { keys: "n", what: "Go to the next call that waits", run: () => go(1) },
    { keys: "p", what: "Go to the call before", run: () => go(-1) },
    { keys: "a", what: "Approve the call that has the focus", run: () => push("approve") },
    { keys: "e", what: "Edit it", run: () => push("edit") },
    { keys: "d", what: "Deny it", run: () => push("deny") },
  ]);
}
