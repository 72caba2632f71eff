// Schedules: when each runs next, what became of the last time, and a button that pauses it.
import type { JSX } from "preact";
import { useEffect, useState } from "preact/hooks";
import { get, post, request } from "../api/client";
import type { Json, JsonObject, Schedule, SchedulesPage } from "../api/types";
import { Opens } from "../decisions/ask";
import { SchemaForm } from "../forms/form";
import { href } from "../router";
import { barredFrom } from "../store/person";
import { attempt, Button, say } from "../ui/controls";
import { Text } from "../ui/text";
import { Ago, duration } from "../ui/time";
import { parseExact } from "../api/json";
import { inputsSchema } from "./inputs";

const READ_AGAIN_MS = 5_000;

/** All schedules, or those of one plan. */
export function Schedules({ plan, body }: { plan?: string; body?: JsonObject }): JSX.Element {
  const [schedules, setSchedules] = useState<Schedule[] | null>(null);
  const read = async (): Promise<void> => setSchedules((await get<SchedulesPage>("v1/schedules")).schedules.filter((each) => plan === undefined || each.plan === plan));
  useEffect(() => {
    void attempt(read);
    const again = setInterval(() => void (document.hidden || read().catch(() => undefined)), READ_AGAIN_MS);
    return () => clearInterval(again);
  }, [plan]);
  return (
    <section class="schedules" aria-labelledby="schedules-title">
      <div class="row">
        <h2 id="schedules-title">Schedules</h2>
        <span class="grow" />
        {plan !== undefined && body ? <NewSchedule plan={plan} body={body} onMade={read} /> : null}
      </div>
      {schedules === null ? null : schedules.length === 0 ? (
        <p class="soft">No schedule{plan === undefined ? ": make one on the page of a plan." : " runs this plan."}</p>
      ) : (
        <div class="scroll" tabIndex={0} role="region" aria-label="Table of schedules">
          <table>
            <thead>
              <tr>
                {["Name", "Plan", "When", "Next", "Last", ""].map((name) => (
                  <th key={name} scope="col">
                    {name || <span class="visually-hidden">Pause or resume</span>}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {schedules.map((each) => (
                <Line key={each.name} schedule={each} onChanged={read} />
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Line({ schedule, onChanged }: { schedule: Schedule; onChanged: () => Promise<void> }): JSX.Element {
  const last = schedule.fires[0];
  const verb = schedule.paused ? "resume" : "pause";
  return (
    <tr>
      <th scope="row">
        <Text of={schedule.name} />
      </th>
      <td>
        <a href={href(["plans", schedule.plan])}>
          <Text of={schedule.plan} />
        </a>
      </td>
      <td>{schedule.cron === null ? `every ${duration(schedule.every ?? 0)}` : <Text of={`${schedule.cron} (${schedule.tz})`} />}</td>
      <td>{schedule.paused || schedule.next_at === null ? "paused" : new Date(schedule.next_at * 1000).toLocaleString()}</td>
      <td>
        {last === undefined ? (
          "never"
        ) : (
          <>
            {last.run_id === null ? last.state : <a href={href(["runs", last.run_id])}>{last.state}</a>} <Ago at={last.at} />
            {last.detail ? <Text of={`: ${last.detail}`} /> : null}
          </>
        )}
      </td>
      <td>
        <Button
          barred={barredFrom("submit")}
          aria-label={`${schedule.paused ? "Resume" : "Pause"} ${schedule.name}`}
          onClick={() =>
            void attempt(async () => {
              await post(`v1/schedules/${encodeURIComponent(schedule.name)}/${verb}`);
              await onChanged();
            })
          }
        >
          {schedule.paused ? "Resume" : "Pause"}
        </Button>
      </td>
    </tr>
  );
}

function NewSchedule({ plan, body, onMade }: { plan: string; body: JsonObject; onMade: () => Promise<void> }): JSX.Element {
  const schema: JsonObject = {
    type: "object",
    properties: {
      name: { type: "string", default: plan, minLength: 1 },
      when: {
        anyOf: [
          { title: "every so often", type: "object", properties: { every: { type: "string", default: "1h", description: "Seconds, or such as 90s, 1h, 1d" } }, required: ["every"] },
          {
            title: "by cron",
            type: "object",
            properties: {
              cron: { type: "string", default: "0 8 * * 1-5", description: "Minute, hour, day of month, month, day of week" },
              tz: { type: "string", default: Intl.DateTimeFormat().resolvedOptions().timeZone, description: "The time zone" },
            },
            required: ["cron", "tz"],
          },
        ],
      },
      inputs: inputsSchema(body),
    },
    required: ["name", "when", "inputs"],
  };
  return (
    <Opens label="Add a schedule" barred={barredFrom("submit")} title={`Run ${plan} by itself`}>
      {(close) => (
        <SchemaForm
          schema={schema}
          root={body}
          label="The schedule"
          submit="Make the schedule"
          place="$"
          onSubmit={async (value) => {
            const { name, when, inputs } = parseExact(value.source) as { name: string; when: JsonObject; inputs: Json };
            const headers = { "If-None-Match": "*" };
            await request("PUT", `v1/schedules/${encodeURIComponent(name)}`, { body: { plan, ...when, inputs }, headers });
            close();
            say(`The schedule ${name} is made`);
            await onMade();
          }}
        />
      )}
    </Opens>
  );
}
