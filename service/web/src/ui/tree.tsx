// A JSON value as a tree: folded and opened, searched, copied, downloaded. Nothing is cut silently: what is not shown yet has a button.
import type { JSX } from "preact";
import { useId, useMemo, useState } from "preact/hooks";
import type { Json } from "../api/types";
import { Button, copyText, download } from "./controls";
import { count, Text, visible } from "./text";

const CHILDREN_FIRST = 100;
const TEXT_FIRST = 2_000;
const OPEN_LEVELS = 2;

interface TreeProps {
  value: Json;
  /** The name of the file when the value is downloaded. */
  name: string;
  label: string;
}

export function JsonTree({ value, name, label }: TreeProps): JSX.Element {
  const [words, setWords] = useState("");
  const search = useId();
  const found = useMemo(() => (words ? matches(value, words.toLowerCase()) : null), [value, words]);
  const whole = (): string => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
  const isLeaf = value === null || typeof value !== "object";
  return (
    <div class="json" aria-label={label} role="group">
      <div class="json-tools">
        {isLeaf ? null : (
          <>
            <label class="visually-hidden" for={search}>
              Search in {label}
            </label>
            <input
              id={search}
              type="search"
              placeholder="Search keys and values"
              value={words}
              onInput={(event) => setWords(event.currentTarget.value)}
            />
            {found ? <span class="soft" role="status">{count(found.hits, "match").replace("matchs", "matches")}</span> : null}
          </>
        )}
        <span class="grow" />
        <Button look="quiet" onClick={() => copyText(whole())}>
          Copy
        </Button>
        <Button
          look="quiet"
          onClick={() =>
            typeof value === "string"
              ? download(`${name}.txt`, new Blob([value], { type: "text/plain" }))
              : download(`${name}.json`, new Blob([whole()], { type: "application/json" }))
          }
        >
          Download
        </Button>
      </div>
      {isLeaf ? (
        <pre class="json-text">{typeof value === "string" ? <LongText text={value} words={words} /> : String(value)}</pre>
      ) : (
        <ul class="json-tree">
          <Branch name={null} value={value} level={0} place="$" found={found} words={words} />
        </ul>
      )}
    </div>
  );
}

interface Found {
  places: Set<string>;
  hits: number;
}

/** The places of all branches that lead to a match. */
function matches(value: Json, words: string): Found {
  const found: Found = { places: new Set(), hits: 0 };
  const look = (each: Json, place: string): boolean => {
    if (each === null || typeof each !== "object") {
      const hit = String(each).toLowerCase().includes(words);
      found.hits += Number(hit);
      return hit;
    }
    let any = false;
    for (const [key, child] of Object.entries(each)) {
      const byKey = !Array.isArray(each) && key.toLowerCase().includes(words);
      found.hits += Number(byKey);
      // Not `||`: every child is looked at, because it may have to be opened, too.
      any = look(child, `${place}/${key}`) || byKey || any;
    }
    if (any) found.places.add(place);
    return any;
  };
  look(value, "$");
  return found;
}

interface BranchProps {
  name: string | null;
  value: Json;
  level: number;
  place: string;
  found: Found | null;
  words: string;
}

function Branch({ name, value, level, place, found, words }: BranchProps): JSX.Element {
  const [opened, setOpened] = useState<boolean | null>(null);
  const [shown, setShown] = useState(CHILDREN_FIRST);
  const key = name === null ? null : (
    <span class="json-key">
      <Marked text={name} words={words} />
    </span>
  );
  if (value === null || typeof value !== "object") {
    return (
      <li>
        {key}
        <span class={`json-${value === null ? "null" : typeof value}`}>
          {typeof value === "string" ? <LongText text={value} words={words} /> : <Marked text={String(value)} words={words} />}
        </span>
      </li>
    );
  }
  const entries = Object.entries(value);
  const size = Array.isArray(value) ? count(entries.length, "item") : count(entries.length, "key");
  const isOpen = opened ?? (found ? found.places.has(place) : level < OPEN_LEVELS && entries.length <= CHILDREN_FIRST);
  return (
    <li>
      <button type="button" class="json-toggle" aria-expanded={isOpen} onClick={() => setOpened(!isOpen)}>
        {key ?? <span class="json-key">value</span>}
        <span class="soft">{size}</span>
      </button>
      {isOpen && entries.length > 0 ? (
        <ul>
          {entries.slice(0, shown).map(([childName, child]) => (
            <Branch key={childName} name={childName} value={child} level={level + 1} place={`${place}/${childName}`} found={found} words={words} />
          ))}
          {entries.length > shown ? (
            <li>
              <Button look="quiet" onClick={() => setShown(shown * 10)}>
                Show more: {count(entries.length - shown, "entry").replace("entrys", "entries")} left
              </Button>
            </li>
          ) : null}
        </ul>
      ) : null}
    </li>
  );
}

function LongText({ text, words }: { text: string; words: string }): JSX.Element {
  const [isWhole, setWhole] = useState(false);
  if (isWhole || text.length <= TEXT_FIRST) return <Marked text={text} words={words} />;
  return (
    <>
      <Marked text={text.slice(0, TEXT_FIRST)} words={words} />
      <Button look="quiet" onClick={() => setWhole(true)}>
        … {count(text.length - TEXT_FIRST, "more character")}
      </Button>
    </>
  );
}

function Marked({ text, words }: { text: string; words: string }): JSX.Element {
  const at = words ? visible(text).toLowerCase().indexOf(words.toLowerCase()) : -1;
  if (at < 0) return <Text of={text} />;
  const whole = visible(text);
  return (
    <>
      {whole.slice(0, at)}
      <mark>{whole.slice(at, at + words.length)}</mark>
      {whole.slice(at + words.length)}
    </>
  );
}
