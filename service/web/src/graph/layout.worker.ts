// The layout, in a thread of its own: the page answers while 500 steps find their places.
//
// Levels are laid out from the inside: no edge leaves its level, so an opened step is a box of the size that its parts need.
import { graphlib, layout } from "@dagrejs/dagre";
import type { Box, BoxLevel, LayoutDone, LayoutTask, Places } from "./types";

const PAD = 14;
const HEAD = 58;
const GAP = 22;
const RANK_GAP = 44;

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
