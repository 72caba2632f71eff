"""Fine-tuning sets from runs that went well: chat-format JSON lines with a data card.

The folder knows an engine's public methods and nothing of stores and machines. It decides which runs are good, what of them may leave, and what the card
says; prompts are made again by the code that made them. Begin with `export.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy_imports import on_first_use

if TYPE_CHECKING:
    from .export import TrainingExport, export_training
    from .verdicts import Verdicts

__getattr__, __dir__ = on_first_use(
    __name__, {"export": ("TrainingExport", "export_training"), "verdicts": ("Verdicts",)}
)

__all__ = ["TrainingExport", "Verdicts", "export_training"]
