// The graph of a plan: layered, folded and opened, with a small map. The layout comes from a worker; the state of a step from its signal.
import { computed } from "@preact/signals";
import { Background, Controls, MiniMap, ReactFlow, ReactFlowProvider, useReactFlow, useStore, type Edge, type Node } from "@xyflow/react";
import type { JSX } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { WaitEdge, type EdgeData } from "./edge";
import { Layouter, NODE_HEIGHT, NODE_WIDTH } from "./layout";
import { MapNode, StepNode, type NodeData } from "./node";
import { SourceContext, type GraphSource } from "./source";
import { edgesOf, partsOf, treeOf, walk } from "./tree";
import type { Level, Places } from "./types";

const NODE_TYPES = { step: StepNode };
const EDGE_TYPES = { wait: WaitEdge };
/** Nodes from which those outside the view are not in the document. */
const MANY = 150;
/** A wide plan is not shown whole at any price: below this nobody sees a step. */
const FIT = { padding: 0.08, maxZoom: 1.1, minZoom: 0.15 };
/** Zoom below which a step has its name alone, in large letters; and zoom below which it is a coloured box, because no word could be read and
 * drawing hundreds of them makes the graph slow. */
const FAR = 0.5;
const FARTHER = 0.25;

interface PlanGraphProps {
  source: GraphSource;
  direction: "TB" | "LR";
}

export function PlanGraph(props: PlanGraphProps): JSX.Element {
  return (
    <ReactFlowProvider>
      <SourceContext.Provider value={props.source}>
        <Flow {...props} />
      </SourceContext.Provider>
    </ReactFlowProvider>
  );
}

interface Drawn {
  level: Level;
  direction: "TB" | "LR";
  places: Places;
}

function Flow({ source, direction }: PlanGraphProps): JSX.Element {
  // Of each source anew: the graph of a plan that is being written grows, and it is no signal.
  const level = useMemo(() => computed(() => treeOf(source.graph, partsOf(source.paths.value), source.opened.value)), [source]).value;
  const [drawn, setDrawn] = useState<Drawn | null>(null);
  const layouter = useMemo(() => new Layouter(), []);
  useEffect(() => () => layouter.stop(), [layouter]);
  const shape = useShape(level);
  useEffect(() => layouter.ask(shape, direction, (places) => setDrawn({ level: shape, direction, places })), [layouter, shape, direction]);
  const { nodes, edges } = useMemo(() => (drawn ? flowOf(drawn) : { nodes: [], edges: [] }), [drawn]);

  const flow = useReactFlow();
  const pane = useRef<HTMLDivElement>(null);
  const isMoved = useRef(false);
  const isDrawn = drawn !== null;
  useEffect(() => {
    // The graph is shown whole until the reader moves it: also when it turns, grows, or has more or less room.
    isMoved.current = false;
  }, [direction]);
  useEffect(() => {
    const fit = (): void => {
      if (!isMoved.current) requestAnimationFrame(() => void flow.fitView(FIT));
    };
    if (!isDrawn || !pane.current) return undefined;
    fit();
    const watched = new ResizeObserver(fit);
    watched.observe(pane.current);
    return () => watched.disconnect();
  }, [isDrawn, drawn]);
  const distance = useStore(({ transform: [, , zoom] }) => (zoom < FARTHER ? "is-farther" : zoom < FAR ? "is-far" : ""));
  const selected = source.selected.value;
  useEffect(() => {
    if (selected !== null) bringIntoView(flow, selected);
  }, [selected, isDrawn]);

  return (
    <ReactFlow
      ref={pane}
      className={distance}
      onMove={(event) => {
        // Without an event it is the page itself that moves the view.
        if (event) isMoved.current = true;
      }}
      nodes={nodes}
      edges={edges}
      nodeTypes={NODE_TYPES as never}
      edgeTypes={EDGE_TYPES as never}
      minZoom={0.05}
      maxZoom={2}
      nodesDraggable={false}
      nodesConnectable={false}
      nodesFocusable={false}
      edgesFocusable={false}
      elementsSelectable={false}
      panOnScroll={false}
      zoomOnDoubleClick={false}
      deleteKeyCode={null}
      selectionKeyCode={null}
      multiSelectionKeyCode={null}
      onlyRenderVisibleElements={nodes.length > MANY}
      proOptions={PRO}
      aria-label="The graph of the plan"
    >
      <Background gap={20} size={1} />
      <Controls showInteractive={false} fitViewOptions={FIT} />
      <MiniMap pannable zoomable nodeComponent={MapNode as never} ariaLabel="Map of the graph" />
    </ReactFlow>
  );
}

// The name of the library stands in the docs; a link to its site would leave this server.
const PRO = { hideAttribution: true };

/** The same object as long as the level has the same shape: a new item of a folded list lays nothing out again. */
function useShape(level: Level): Level {
  const kept = useRef<{ text: string; level: Level } | null>(null);
  const text = JSON.stringify(level);
  if (kept.current?.text !== text) kept.current = { text, level };
  return kept.current.level;
}

function flowOf({ level, direction, places }: Drawn): { nodes: Node<NodeData>[]; edges: Edge<EdgeData>[] } {
  const nodes = [...walk(level)].flatMap(({ node, parent }): Node<NodeData>[] => {
    const place = places[node.path];
    if (!place) return [];
    return [
      {
        id: node.path,
        type: "step",
        position: { x: place.x, y: place.y },
        width: place.width,
        height: place.height,
        data: { node, direction },
        style: { pointerEvents: "all" },
        ...(parent === null ? {} : { parentId: parent }),
      },
    ];
  });
  const edges = edgesOf(level).map(
    ({ from, to, kind }): Edge<EdgeData> => ({ id: `${from} ${to}`, source: from, target: to, type: "wait", data: { kind }, zIndex: 0 }),
  );
  return { nodes, edges };
}

/** Move the view only if the step is out of it. */
function bringIntoView(flow: ReturnType<typeof useReactFlow>, path: string): void {
  const node = flow.getInternalNode(path);
  const pane = document.querySelector(".react-flow");
  if (!node || !pane) return;
  const { x, y } = node.internals.positionAbsolute;
  const view = flow.getViewport();
  const [left, top] = [x * view.zoom + view.x, y * view.zoom + view.y];
  const isInside = left > 0 && top > 0 && left + NODE_WIDTH * view.zoom < pane.clientWidth && top + NODE_HEIGHT * view.zoom < pane.clientHeight;
  if (!isInside) void flow.setCenter(x + NODE_WIDTH / 2, y + NODE_HEIGHT / 2, { zoom: Math.max(view.zoom, 0.6) });
}
