// Why a step ran or was reused, and what differs from the nearest earlier call.
import type { JSX } from "preact";
import type { Explanation } from "../api/types";
import { href } from "../router";
import { cut, rendered, Text } from "../ui/text";
import { JsonTree } from "../ui/tree";

const INLINE = 120;

export function Why({ explained }: { explained: Explanation | null }): JSX.Element {
  if (explained === null) return <p class="empty">…</p>;
  return (
    <div class="drawer-part">
      <Reason explained={explained} />
      {explained.parts.length === 0 ? null : (
        <>
          <h3>Parts</h3>
          {explained.parts.map((part) => (
            <Reason key={part.step} explained={part} />
          ))}
        </>
      )}
      {Object.keys(explained.rules).length === 0 ? null : (
        <>
          <h3>Rules</h3>
          <dl class="facts">
            {Object.entries(explained.rules).map(([name, rule]) => (
              <div class="fact" key={name}>
                <dt>
                  <Text of={name} />
                </dt>
                <dd>
                  <Text of={rule} />
                </dd>
              </div>
            ))}
          </dl>
        </>
      )}
    </div>
  );
}

function Reason({ explained }: { explained: Explanation }): JSX.Element {
  const { source, changes } = explained;
  return (
    <div class="reason">
      <p>
        <span class={`badge ${explained.verdict === "reused" ? "" : "is-retried"}`}>{explained.verdict}</span> <Text of={explained.sentence} />
      </p>
      {source ? (
        <p>
          from <a href={href(["runs", source.run], { step: source.step })}>{source.run}</a>, step <Text of={source.step} />
        </p>
      ) : null}
      {changes.length === 0 ? null : (
        <div class="scroll" tabIndex={0} role="region" aria-label="What differs">
          <table class="steps">
            <thead>
              <tr>
                {["Part of the key", "Before", "Now"].map((name) => (
                  <th key={name} scope="col">
                    {name}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {changes.map((change) => (
                <tr key={change.name}>
                  <th scope="row">
                    <Text of={change.name} />
                  </th>
                  <td class="value">
                    <Value of={change.before} />
                  </td>
                  <td class="value">
                    <Value of={change.after} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </div>
  );
}

function Value({ of }: { of: Explanation["changes"][number]["before"] }): JSX.Element {
  const text = rendered(of);
  if (of !== null && typeof of === "object" && text.length > INLINE) return <JsonTree value={of} name="value" label="a value" />;
  return <Text of={cut(text, 2_000)} />;
}
