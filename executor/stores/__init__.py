"""Where runs, values, results for reuse and saved plans are kept: in a SQLite file, in memory, or in PostgreSQL.

A store knows rows, bytes and digests. It does not know the machine, events or what a record means. Begin with the protocol in `store.py`, then
`sql_store.py` (every operation, once) and its dialects `sqlite_store.py` and `postgres_store.py`.
"""
