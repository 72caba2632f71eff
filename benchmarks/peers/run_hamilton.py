"""Hamilton: a function a step, in memory, and with its cache on the disk."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from types import FunctionType, ModuleType

import dag
from hamilton import ad_hoc_utils, driver

SOURCE_FIRST = "def s{number}(n: int) -> dict:\n    return added(START, START, START, {number} + n)\n"
SOURCE = (
    "def s{number}({a}: dict, {b}: dict, {c}: dict) -> dict:\n    return added({a}, {b}, {c}, {number})\n"
)


def functions() -> list[Callable[..., object]]:
    """Return the functions of the steps; Hamilton finds a function's parents by the names of its parameters."""
    made: list[Callable[..., object]] = []
    with tempfile.NamedTemporaryFile("w", suffix=".py", delete=False) as file:
        text = ["from dag import START, added\n\n"]
        for number in range(dag.STEPS):
            parents = [f"s{parent}" for parent in dag.parents_of(number)]
            form = SOURCE if parents else SOURCE_FIRST
            text.append(form.format(number=number, **dict(zip("abc", parents, strict=False))))
        file.write("\n".join(text))
    module = ModuleType("steps")
    module.__file__ = file.name
    exec(compile("\n".join(text), file.name, "exec"), module.__dict__)
    made += [
        value
        for value in vars(module).values()
        if isinstance(value, FunctionType) and value.__name__ != "added"
    ]
    return made


async def main() -> None:
    """Measure."""
    module = ad_hoc_utils.create_temporary_module(*functions(), module_name="steps")
    with tempfile.TemporaryDirectory() as folder:
        plain = driver.Builder().with_modules(module).build()
        kept = driver.Builder().with_modules(module).with_cache(path=folder).build()
        last = f"s{dag.STEPS - 1}"

        async def run(graph: driver.Driver, n: int) -> dag.Item:
            return graph.execute([last], inputs={"n": n})[last]

        await dag.measured(
            {
                "driver, in memory": lambda n: run(plain, n),
                "driver, cache on the disk": lambda n: run(kept, n),
                "driver, all from the cache": lambda n: run(kept, n),
            },
            ["sf-hamilton"],
        )


asyncio.run(main())
