"""The life of a run in one store: submitted, driven by one owner, decided about, shown and replayed."""
