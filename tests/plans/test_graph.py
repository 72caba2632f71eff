"""The graph of a plan: program order, circles, cones. networkx is the oracle."""

from __future__ import annotations

from itertools import pairwise

import networkx as nx
from firmplan.plans.program.graph import cone, cycles, depths, direct_waits, program_order, to_networkx
from hypothesis import given
from hypothesis import strategies as st

graphs = st.integers(0, 9).flatmap(
    lambda count: st.lists(
        st.lists(st.integers(0, max(count - 1, 0)), max_size=3, unique=True), min_size=count, max_size=count
    )
)
acyclic = st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=9).map(
    lambda rows: [
        sorted({other % number for other in row}) if number else [] for number, row in enumerate(rows)
    ]
)


@given(graphs)
def test_the_program_order_holds_every_step_once_and_knows_circles(waits):
    order, is_order = program_order(waits)
    assert sorted(order) == list(range(len(waits)))
    assert is_order == nx.is_directed_acyclic_graph(to_networkx(waits))
    if is_order:
        place = {step: at for at, step in enumerate(order)}
        assert all(place[other] < place[step] for step, others in enumerate(waits) for other in others)


@given(acyclic)
def test_a_list_that_is_in_order_stays_as_it_is(waits):
    """The order is the list's wherever the list allows it."""
    assert program_order(waits) == (list(range(len(waits))), True)


def test_a_step_is_preceded_by_what_it_waits_for_and_nothing_else():
    assert program_order([[2], [], [3], []]) == ([3, 2, 0, 1], True)


@given(graphs)
def test_circles_are_circles_and_all_groups_have_one(waits):
    found = cycles(waits)
    for circle in found:
        assert circle[0] == circle[-1] == min(circle)
        assert all(there in waits[here] for here, there in pairwise(circle))
    groups = [
        group
        for group in nx.strongly_connected_components(to_networkx(waits))
        if len(group) > 1 or next(iter(group)) in waits[next(iter(group))]
    ]
    assert sorted(circle[0] for circle in found) == sorted(min(group) for group in groups)


@given(acyclic, st.data())
def test_a_cone_is_what_depends_on_its_roots(waits, data):
    if not waits:
        return
    root = data.draw(st.integers(0, len(waits) - 1))
    assert cone(waits, [root]) == sorted({root, *nx.ancestors(to_networkx(waits), root)})


@given(acyclic)
def test_depth_is_the_longest_chain(waits):
    order, _ = program_order(waits)
    longest = nx.dag_longest_path_length(to_networkx(waits)) + 1 if waits else 0
    assert max(depths(waits, order), default=0) == longest


@given(acyclic)
def test_direct_waits_are_the_transitive_reduction(waits):
    order, _ = program_order(waits)
    place = {step: at for at, step in enumerate(order)}
    bits = [sum(1 << place[other] for other in others) for others in waits]
    reduced = nx.transitive_reduction(to_networkx(waits))
    assert [list(direct) for direct in direct_waits(bits, order)] == [
        sorted(reduced.successors(step)) for step in range(len(waits))
    ]


def test_long_chains_need_no_recursion():
    waits = [[number + 1] for number in range(50_000)] + [[]]
    assert program_order(waits)[0][0] == 50_000
    waits[-1] = [0]
    assert len(cycles(waits)[0]) == 50_002
