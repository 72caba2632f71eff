// Decisions as they go to the server. Each names the attempt that is shown, so that it does not apply to a later one.
import { post, Problem, runPath } from "../api/client";
import type { JsonObject } from "../api/types";
import { me, personName } from "../store/person";
import { say } from "../ui/controls";

/** Who decides; a key with a name needs none. */
export const by = (): JsonObject => (personName.value && !me.value?.name ? { by: personName.value } : {});

/** Send a decision. If somebody else was quicker, that is said, and it counts as done: what is shown is out of date. Raises: Problem: any other refusal. */
export async function decide(run: string, parts: string[], body: object): Promise<void> {
  try {
    await post(runPath(run, ...parts), { ...body, ...by() });
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "decided") throw error;
    say(`Nothing was recorded, because somebody has decided before you: ${error.message}`, true);
  }
}

/** Whether a refusal is about the name of who decides, so that its field is where to go. */
export function isAboutName(error: unknown): boolean {
  return error instanceof Problem && error.status === 422 && error.problems.some((each) => each.path === "$" || each.path === "$.by") && /\bby\b/.test(error.message);
}
