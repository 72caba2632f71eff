// What the check of a plan found.
import type { JSX } from "preact";
import { jsonText } from "../api/json";
import type { Report } from "../api/types";
import { count, Text } from "../ui/text";

export function CheckResult({ report }: { report: Report }): JSX.Element {
  const errors = report.problems.filter((each) => each.severity === "error").length;
  const warnings = report.problems.length - errors;
  return (
    <section class="check" aria-label="The check of the plan">
      <p class={report.ok ? "check-ok" : "check-bad"}>
        {report.ok ? "The plan passes its check" : "The plan does not pass its check"}
        {errors || warnings ? `: ${[errors ? count(errors, "fault") : "", warnings ? count(warnings, "warning") : ""].filter(Boolean).join(", ")}` : ""}.
      </p>
      <ul>
        {report.problems.map((each, at) => (
          <li key={at} class={each.severity === "error" ? "problem" : "warning"}>
            <code>
              <Text of={each.path} />
            </code>{" "}
            <Text of={each.message} /> {each.hint ? <Text of={`(${each.hint})`} /> : null} <code>{each.code}</code>
          </li>
        ))}
      </ul>
      <p class="soft">
        <Text of={boundsText(report.bounds)} />
      </p>
    </section>
  );
}

function boundsText({ calls_max: calls, model_calls_max: asked, critical_path: chain }: Report["bounds"]): string {
  // Numbers are as the server wrote them, and no numbers of JavaScript.
  const most = calls === null || asked === null ? "How many calls a run makes depends on its data." : `A run makes at most ${jsonText(calls)} calls, ${jsonText(asked)} of them to models.`;
  return Array.isArray(chain) && chain.length > 1 ? `${most} Its longest chain is ${chain.join(" → ")}.` : most;
}
