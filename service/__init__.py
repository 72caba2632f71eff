"""The HTTP API and the web page; needs the extra `firmplan[server]`.

It knows the engine, and neither stores nor planners; the page (`web/`) knows only the HTTP API. Begin at `app.py` (the application and
its server), then `routes.py` (what each path does) and `run_queue.py` (which runs a server accepts and continues).
"""

from .app import create_app, find_loop, serve
from .auth import ServerBudget, ServerLimits

__all__ = ["ServerBudget", "ServerLimits", "create_app", "find_loop", "serve"]
