"""Calls of language models: endpoints, requests, structured answers, prices, rates and retries.

The folder speaks the OpenAI API through the `openai` and `instructor` clients and knows neither plans nor runs. Begin with `completion.py` (one structured answer)
and `models.py` (the models that an engine is given).
"""
