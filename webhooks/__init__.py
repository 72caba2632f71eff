"""Webhooks: signed messages to endpoints of the settings when a run has ended or waits for a person, and when a schedule has failed.

What is to be told is a row of the store, written in the transaction that ends the run; so it is told at least once, whatever dies. `endpoint.py` has
the endpoints and their signatures (Standard Webhooks), `outbox.py` the tables, `sender.py` makes messages of what happened, sends them and tries again.
This folder knows no engine: it is handed a function that describes a run. Begin with `sender.py`.
"""

from .endpoint import EVENTS, Webhook
from .outbox import Delivery, Outbox
from .sender import WebhookSender

__all__ = ["EVENTS", "Delivery", "Outbox", "Webhook", "WebhookSender"]
