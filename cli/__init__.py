"""The command line `firmplan`."""

from .app import app, main

__all__ = ["app", "main"]
