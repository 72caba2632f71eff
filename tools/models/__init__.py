"""Calls of language models: endpoints, requests, structured answers, prices, rates and retries.

The folder speaks the OpenAI API through the clients `openai` and `instructor`. It knows no plan and no run. Begin with `models.py` (the
conversation that gets one valid answer), then `completion.py` (one request) and `limits.py` (budget, retries, rates).
"""
