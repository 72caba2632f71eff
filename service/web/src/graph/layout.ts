// Asks the worker for a layout. Only the newest question counts: an answer to an older one is dropped.
import type { BoxLevel, LayoutDone, LayoutTask, Level, Places } from "./types";
import layoutWorker from "./layout.worker?worker&url";

export const NODE_WIDTH = 216;
export const NODE_HEIGHT = 64;

type Direction = LayoutTask["direction"];

export class Layouter {
  #worker: Worker | null = null;
  #number = 0;
  #answer: ((places: Places) => void) | null = null;

  /** Call `then` with the places of all boxes, unless another layout is asked for before they are there. */
  ask(level: Level, direction: Direction, then: (places: Places) => void): void {
    this.#worker ??= this.#started();
    this.#answer = then;
    this.#worker.postMessage({ number: ++this.#number, level: boxes(level), direction } satisfies LayoutTask);
  }

  stop(): void {
    this.#worker?.terminate();
    this.#worker = null;
  }

  #started(): Worker {
    const worker = new Worker(trusted(layoutWorker), { type: "module" });
    worker.onmessage = (event: MessageEvent<LayoutDone>) => {
      if (event.data.number === this.#number) this.#answer?.(event.data.places);
    };
    return worker;
  }
}

function boxes(level: Level): BoxLevel {
  return {
    boxes: level.nodes.map((node) => ({
      id: node.path,
      width: NODE_WIDTH,
      height: NODE_HEIGHT,
      inside: node.inside && boxes(node.inside),
    })),
    edges: level.edges,
  };
}

// The page's policy lets no text become an address of a script, but through this one policy, which knows one address.
interface TrustedTypes {
  createPolicy(name: string, rules: { createScriptURL: (url: string) => string }): { createScriptURL: (url: string) => string };
}
const types = (globalThis as { trustedTypes?: TrustedTypes }).trustedTypes;
const policy = types?.createPolicy("firmplan", {
  createScriptURL(url) {
    if (url !== layoutWorker) throw new TypeError(`${url} is no worker of this page`);
    return url;
  },
});

function trusted(url: string): string {
  return policy ? policy.createScriptURL(url) : url;
}
