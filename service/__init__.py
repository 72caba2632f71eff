"""The HTTP API and the web page; needs the extra `firmplan[server]`."""

from .app import create_app
from .guard import Limits
from .serving import serve

__all__ = ["Limits", "create_app", "serve"]
