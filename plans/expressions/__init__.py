"""The expression language: read, checked against types, spelled canonically, evaluated over JSON."""
