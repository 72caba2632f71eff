"""Small OpenAPI documents, and plans of one call."""

from __future__ import annotations

from firmplan import Engine


def document(paths, **more):
    """A document of OpenAPI 3.1 with these paths."""
    return {"openapi": "3.1.0", "info": {"title": "Shop", "version": "7"}, "paths": paths, **more}


def operation(**more):
    """An operation without anything in it."""
    return {"operationId": "call", "responses": {"200": {"content": {"application/json": {}}}}, **more}


def call(tools, args=None, name="call", *, secrets=None, **step):
    """Run a plan of one call; return the run."""
    plan = {
        "firmplan": 1,
        "steps": [{"id": "a", "tool": name, "args": args or {}, **step}],
        "output": "${a}",
    }
    with Engine(tools=tools, store="memory:", secrets=secrets) as engine:
        return engine.run_sync(plan)
