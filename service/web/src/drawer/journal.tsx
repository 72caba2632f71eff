// The records of a step in the run's journal, as they are.
import type { JSX } from "preact";
import type { RunStore } from "../store/run";
import { JsonTree } from "../ui/tree";

const SHOWN = 50;

export function Journal({ store, path }: { store: RunStore; path: string }): JSX.Element {
  const events = store.events(path).value;
  if (events.length === 0) return <p class="empty">The journal has no record of this step alone.</p>;
  return (
    <div class="drawer-part">
      {events.length > SHOWN ? <p class="soft">the last {SHOWN} of {events.length} records</p> : null}
      <ol class="journal">
        {events.slice(-SHOWN).map((event) => (
          <li key={event.seq}>
            <details>
              <summary>
                <code>{event.seq}</code> <strong>{event.type}</strong>{" "}
                <span class="soft">{new Date(event.at * 1000).toISOString().slice(11, 23)}</span>
              </summary>
              <JsonTree value={event.data} name={`event-${event.seq}`} label={`record ${event.seq}`} />
            </details>
          </li>
        ))}
      </ol>
    </div>
  );
}
