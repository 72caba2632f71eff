// Paths of steps: `outer/inner`, `step[3]` (item), `step#2` (iteration). The executor makes them (execution_tree.py).

/** The path of what a step, item or iteration is part of; `null` for a step of the plan itself. */
export function parentOf(path: string): string | null {
  const found = /^(.*)(?:\/[^/]+|\[\d+\]|#\d+)$/s.exec(path);
  return found && found[1] !== "" ? found[1]! : null;
}

/** The last part: `inner`, `[3]`, `#2`. */
export function lastPart(path: string): string {
  return /(?:\[\d+\]|#\d+|[^/[\]#]+)$/.exec(path)?.[0] ?? path;
}

/** The step of the plan that a path belongs to: `spots` of `spots[2]/look#1`. */
export function rootOf(path: string): string {
  return /^[^/[#]+/.exec(path)?.[0] ?? path;
}
