"""The client of `firmplan serve`: the calls of an engine, made over HTTP.

It knows the server's routes and documents, and nothing of stores, tools or planners: a program that only submits, watches and decides needs
neither the tools nor a model. Begin with `calls.py`, which has every call once; `client.py` offers them with and without an event loop.
"""

from __future__ import annotations

from .client import AsyncClient, Client
from .results import PlanEntry, ServedTool

__all__ = ["AsyncClient", "Client", "PlanEntry", "ServedTool"]
