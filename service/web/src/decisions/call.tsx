// Everything about one call that waits. Nothing of an argument is cut, because the person decides about exactly this.
import type { ComponentChildren, JSX } from "preact";
import { jsonText } from "../api/json";
import type { Origin, Quote, ShownArgument, WaitingCall } from "../api/types";
import { href } from "../router";
import { StatusBadge } from "../ui/status";
import { count, rendered, Text } from "../ui/text";
import { Ago } from "../ui/time";

interface CardProps {
  call: WaitingCall;
  id: string;
  /** The box with which the call is chosen for a decision about several. */
  mark: { is: boolean; onChange: () => void } | null;
  children: ComponentChildren;
}

export function CallCard({ call, id, mark, children }: CardProps): JSX.Element {
  const acts = ["read", "write"].includes(call.effect);
  return (
    <article class="call" id={id} tabIndex={-1} data-step={call.step} aria-label={`Step ${call.step}, attempt ${call.attempt}`}>
      <header>
        {mark === null ? null : <input type="checkbox" aria-label={`Choose step ${call.step}`} checked={mark.is} onChange={mark.onChange} />}
        <strong>
          <Text of={call.step} />
        </strong>
        <span class="soft">
          attempt {call.attempt} · <Text of={call.tool} />
        </span>
        <span class={`effect is-${call.effect}`}>
          {call.effect}
          {acts ? (
            <>
              {" "}
              on <Text of={call.resource} />
            </>
          ) : null}
        </span>
      </header>
      <p>
        {call.tool === "endorse" ? "This value counts as trusted in the rest of the run once you endorse it." : ABOUT[call.about]}
        {call.expires === null ? null : ` It expires at ${new Date(call.expires * 1000).toLocaleString()}.`}
      </p>
      {call.asked_again ? <p class="warning">You are asked again: {call.asked_again}.</p> : null}
      {call.is_controlled ? (
        <div class="warning">
          Data from outside decided whether, or how often, this call is made{call.controlled_by.length ? ":" : "."}
          {call.controlled_by.map((from) => (
            <OriginLine key={from.source} from={from} />
          ))}
        </div>
      ) : null}
      <dl class="facts">
        {call.description ? <Fact name="tool">{<Text of={call.description} />}</Fact> : null}
        {call.why ? <Fact name="why, by the plan">{<Text of={call.why} />}</Fact> : null}
        {call.args.map((argument) => (
          <ArgumentFact key={argument.name} argument={argument} />
        ))}
        {call.past_write ? <Fact name="an earlier run">{<Text of={call.past_write.message} />}</Fact> : null}
        <Fact name="last time">
          <LastTime call={call} />
        </Fact>
      </dl>
      {call.is_complete ? null : <p class="soft">Large texts were compared with their origins in part.</p>}
      {call.about === "question" ? children : <div class="row">{children}</div>}
    </article>
  );
}

const ABOUT = {
  call: "This call waits for you.",
  question: "This question waits for your answer.",
  outcome: "The outcome of this call is unknown: it may or may not have taken effect. Find out, then choose.",
} as const;

function Fact({ name, children }: { name: ComponentChildren; children: ComponentChildren }): JSX.Element {
  return (
    <>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </>
  );
}

export function OriginLine({ from }: { from: Origin }): JSX.Element {
  return (
    <div class="outside">
      from <Text of={from.call} />
      {from.via.length > 1 ? (
        <>
          , by way of <Text of={from.via.slice(1).join(" → ")} />
        </>
      ) : null}
    </div>
  );
}

export function ArgumentFact({ argument }: { argument: ShownArgument }): JSX.Element {
  const name = (
    <>
      <Text of={argument.name} />
      {argument.is_default ? " (default)" : ""}
      {argument.is_labelled ? <div class="outside">untrusted data</div> : null}
    </>
  );
  return (
    <Fact name={name}>
      <ArgumentValue argument={argument} />
      {argument.origins.map((from) => (
        <OriginLine key={from.source} from={from} />
      ))}
      {argument.origins_left ? <div class="outside">and from {count(argument.origins_left, "more call")}</div> : null}
      {argument.quotes.map((quote, at) => (
        <div class="soft quote" role="group" tabIndex={0} aria-label={`quote ${at + 1} in ${argument.name}`} key={at}>
          verbatim from <Text of={quote.source + placeOf(quote.source_place)} />
          {quote.place ? <Text of={`, in ${argument.name}${quote.place}`} /> : null}
          {": "}
          <Text of={quote.before} />
          <mark>
            <Text of={quote.text} />
          </mark>
          <Text of={quote.after} />
        </div>
      ))}
    </Fact>
  );
}

function ArgumentValue({ argument }: { argument: ShownArgument }): JSX.Element {
  const { value, secret, quotes } = argument;
  // A long value scrolls, so the keyboard has to reach it.
  return (
    <pre class="whole" role="group" tabIndex={0} aria-label={`the value of ${argument.name}`}>
      {secret !== null ? (
        <Text of={`the secret ${JSON.stringify(secret)}`} />
      ) : value === "" ? (
        <span class="soft">an empty text</span>
      ) : typeof value === "string" ? (
        <QuotedText text={value} quotes={quotes.filter((quote) => quote.place === "")} />
      ) : (
        <Text of={jsonText(value, 2)} />
      )}
    </pre>
  );
}

function QuotedText({ text, quotes }: { text: string; quotes: Quote[] }): JSX.Element {
  // Places of quotes count characters, not the units of which JavaScript's texts consist.
  const characters = Array.from(text);
  const parts: JSX.Element[] = [];
  let shown = 0;
  for (const quote of quotes) {
    parts.push(
      <Text of={characters.slice(shown, quote.start).join("")} />,
      <mark title={`verbatim from ${quote.source}${placeOf(quote.source_place)}`}>
        <Text of={characters.slice(quote.start, quote.end).join("")} />
      </mark>,
    );
    shown = quote.end;
  }
  parts.push(<Text of={characters.slice(shown).join("")} />);
  return <>{parts}</>;
}

const placeOf = (place: string): string => (place ? ` at ${place}` : "");

function LastTime({ call }: { call: WaitingCall }): JSX.Element {
  const last = call.last_time;
  if (last === null) return <>no earlier run of this plan has called the step</>;
  return (
    <>
      <div>
        run <a href={href(["runs", last.run], { step: call.step })}>{last.run}</a>, <Ago at={last.at} /> <StatusBadge status={last.status} />
      </div>
      {last.decisions.map((each) => (
        <div key={each.at}>
          <Text of={`${each.decision}${each.edited ? " with other arguments" : ""}${each.by ? ` by ${each.by}` : ""}`} /> <Ago at={each.at} />
          {each.reason ? <Text of={`: ${each.reason}`} /> : null}
        </div>
      ))}
      <pre class="whole" role="group" tabIndex={0} aria-label="the arguments of last time">
        <Text of={jsonText(last.args, 2)} />
      </pre>
      {last.error === null ? null : (
        <div class="is-failed">
          <Text of={rendered(last.error)} />
        </div>
      )}
    </>
  );
}
