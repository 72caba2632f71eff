// What the check of a plan found.
import type { JSX } from "preact";
import { jsonText } from "../api/json";
import type { Report } from "../api/types";
import { Text } from "../ui/text";

export function CheckResult({ report }: { report: Report }): JSX.Element {
  const errors = report.problems.filter((each) => each.severity === "error").length;
  const warnings = report.problems.length - errors;
  return (
    <section class="check" aria-label="The check of the plan">
      <p class={report.ok ? "check-ok" : "check-bad"}>
        {report.ok ? "The plan passes its check" : "The plan does not pass its check"}
        {errors || warnings ? `: ${[errors ? `${errors} faults` : "", warnings ? `${warnings} warnings` : ""].filter(Boolean).join(", ")}` : ""}.
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

function boundsText(bounds: Report["bounds"]): string {
  const found = Object.entries(bounds).filter(([, value]) => value !== null && typeof value !== "object");
  return found.length ? `At most: ${found.map(([name, value]) => `${name.replaceAll("_", " ")} ${jsonText(value)}`).join(", ")}` : "";
}
