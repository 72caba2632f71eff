"""The description that a server gives of itself, made once: it takes most of a second."""

from __future__ import annotations

from firmplan import Engine
from firmplan.service.app import create_app

DESCRIBED = create_app(Engine([], store="memory:")).openapi()
