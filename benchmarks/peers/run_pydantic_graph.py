"""pydantic-graph: a layer is a map over its steps and a join; the values are the graph's state."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import dag
from pydantic_graph import GraphBuilder, StepContext, reduce_dict_update


@dataclass
class State:
    """The values of the steps so far."""

    n: int
    values: dict[int, dag.Item] = field(default_factory=dict)


def graph_of() -> Any:
    """Return the graph."""
    builder = GraphBuilder(state_type=State, output_type=dict)
    before: Any = builder.start_node
    for at, numbers in enumerate(dag.layers()):

        @builder.step(node_id=f"layer{at}")
        async def begin(ctx: StepContext[State, None, Any], numbers: range = numbers) -> list[int]:
            ctx.state.values.update(ctx.inputs or {})
            return list(numbers)

        @builder.step(node_id=f"step{at}")
        async def work(ctx: StepContext[State, None, int]) -> dict[int, dag.Item]:
            number = ctx.inputs
            n = number if dag.parents_of(number) else number + ctx.state.n
            return {number: await dag.step(*dag.given_to(number, ctx.state.values), n)}

        joined = builder.join(reduce_dict_update, initial_factory=dict, node_id=f"join{at}")
        builder.add(
            builder.edge_from(before).to(begin),
            builder.edge_from(begin).map().to(work),
            builder.edge_from(work).to(joined),
        )
        before = joined
    builder.add(builder.edge_from(before).to(builder.end_node))
    return builder.build()


async def main() -> None:
    """Measure."""
    graph = graph_of()

    async def run(n: int) -> dag.Item:
        return (await graph.run(state=State(n)))[dag.STEPS - 1]

    await dag.measured({"graph, in memory": run}, ["pydantic-graph"])


asyncio.run(main())
