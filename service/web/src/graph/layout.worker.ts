// The layout, in a thread of its own: the page answers while 500 steps find their places.
//
// Levels are laid out from the inside: no edge leaves its level, so an opened step is a box of the size that its parts need.
import { graphlib, layout } from "@dagrejs/dagre";
import type { Box, BoxLevel, LayoutDone, LayoutTask, Places } from "./types";

const PAD = 14;
const HEAD = 58;
const GAP = 22;
const RANK_GAP = 44;
/** Boxes that dagre lays out: 500 take it a second, 1,000 seven, and 2,000 a minute. */
const BOXES_MAX = 700;

self.onmessage = (event: MessageEvent<LayoutTask>) => {
  const { number, level, direction } = event.data;
  const places: Places = {};
  place(level, direction, places);
  self.postMessage({ number, places } satisfies LayoutDone);
};

interface Size {
  width: number;
  height: number;
}

function place(level: BoxLevel, direction: "TB" | "LR", places: Places): Size {
  const sizes = new Map(level.boxes.map((box) => [box.id, sizeOf(box, direction, places)]));
  if (level.edges.length === 0) return inGrid(level.boxes, sizes, places);
  if (level.boxes.length > BOXES_MAX) return inLayers(level, sizes, direction, places);
  const graph = new graphlib.Graph();
  graph.setGraph({ rankdir: direction, nodesep: GAP, ranksep: RANK_GAP, marginx: 0, marginy: 0 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const [id, size] of sizes) graph.setNode(id, { ...size });
  for (const { from, to } of level.edges) if (sizes.has(from) && sizes.has(to)) graph.setEdge(from, to);
  layout(graph);
  let width = 0;
  let height = 0;
  for (const [id, size] of sizes) {
    // dagre has the middle of a box, the page its corner.
    const { x, y } = graph.node(id) as { x: number; y: number };
    const corner = { x: x - size.width / 2, y: y - size.height / 2 };
    places[id] = { ...corner, ...size };
    width = Math.max(width, corner.x + size.width);
    height = Math.max(height, corner.y + size.height);
  }
  return { width, height };
}

function sizeOf(box: Box, direction: "TB" | "LR", places: Places): Size {
  if (box.inside === null) return { width: box.width, height: box.height };
  const inner = place(box.inside, direction, places);
  for (const part of box.inside.boxes) {
    places[part.id]!.x += PAD;
    places[part.id]!.y += HEAD;
  }
  return { width: Math.max(box.width, inner.width + 2 * PAD), height: inner.height + HEAD + PAD };
}

/** Layers by the longest chain up to each box; in a layer, boxes stand in the order of what they wait for. O(boxes + edges), besides sorting. */
function inLayers(level: BoxLevel, sizes: ReadonlyMap<string, Size>, direction: "TB" | "LR", places: Places): Size {
  const waits = new Map<string, string[]>(level.boxes.map((box) => [box.id, []]));
  for (const { from, to } of level.edges) if (waits.has(from)) waits.get(to)?.push(from);
  const ranks = new Map<string, number>();
  // Program order is no order of the list, so boxes are visited depth first; a stack of our own, because chains may be long.
  for (const box of level.boxes) {
    const stack = [box.id];
    while (stack.length > 0) {
      const id = stack.at(-1)!;
      const open = waits.get(id)!.filter((other) => !ranks.has(other) && other !== id);
      if (ranks.has(id) || open.length === 0 || stack.length > level.boxes.length) {
        stack.pop();
        if (!ranks.has(id)) ranks.set(id, 1 + Math.max(-1, ...waits.get(id)!.map((other) => ranks.get(other) ?? -1)));
      } else stack.push(...open);
    }
  }
  const layers: string[][] = [];
  for (const box of level.boxes) (layers[ranks.get(box.id)!] ??= []).push(box.id);
  const isDown = direction === "TB";
  const middles = new Map<string, number>();
  let along = 0;
  let across = 0;
  for (const layer of layers) {
    const wish = (id: string): number => {
      const known = waits.get(id)!.map((other) => middles.get(other) ?? 0);
      return known.reduce((sum, each) => sum + each, 0) / (known.length || 1);
    };
    const wishes = new Map(layer.map((id) => [id, wish(id)]));
    layer.sort((a, b) => wishes.get(a)! - wishes.get(b)!);
    let at = 0;
    let thick = 0;
    for (const id of layer) {
      const size = sizes.get(id)!;
      const length = isDown ? size.width : size.height;
      places[id] = { x: isDown ? at : along, y: isDown ? along : at, ...size };
      middles.set(id, at + length / 2);
      at += length + GAP;
      thick = Math.max(thick, isDown ? size.height : size.width);
    }
    across = Math.max(across, at - GAP);
    along += thick + RANK_GAP;
  }
  along -= RANK_GAP;
  return isDown ? { width: across, height: along } : { width: along, height: across };
}

/** Boxes that wait for nothing: rows of about the same length, in a block as wide as a screen is. */
function inGrid(boxes: readonly Box[], sizes: ReadonlyMap<string, Size>, places: Places): Size {
  const area = boxes.reduce((sum, box) => sum + (sizes.get(box.id)!.width + GAP) * (sizes.get(box.id)!.height + GAP), 0);
  const most = Math.max(Math.sqrt(area) * 1.9, ...boxes.map((box) => sizes.get(box.id)!.width));
  let x = 0;
  let y = 0;
  let row = 0;
  let width = 0;
  for (const box of boxes) {
    const size = sizes.get(box.id)!;
    if (x > 0 && x + size.width > most) {
      x = 0;
      y += row + GAP;
      row = 0;
    }
    places[box.id] = { x, y, ...size };
    width = Math.max(width, x + size.width);
    row = Math.max(row, size.height);
    x += size.width + GAP;
  }
  return { width, height: y + row };
}
