"""The HTTP API and the web page; needs the extra `firmplan[server]`.

It knows the engine, and neither stores nor planners; the page (`web/`) knows only the HTTP API. Begin at `app.py` (the application and
its server), then `routes/` (what each path does) and `run_queue.py` (which runs a server accepts and continues).
"""

try:
    from .app import create_app, find_loop, serve
    from .auth import ServerBudget, ServerLimits
except ModuleNotFoundError as missing:
    if (missing.name or "").startswith("firmplan"):
        raise
    needs = (
        f"serving needs the package '{missing.name}', which is not installed: pip install 'firmplan[server]'"
    )
    raise ModuleNotFoundError(needs, name=missing.name) from missing

__all__ = ["ServerBudget", "ServerLimits", "create_app", "find_loop", "serve"]
