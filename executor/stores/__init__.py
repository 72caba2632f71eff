"""Where runs are kept: what the executor needs of a store, and the one in SQLite."""
