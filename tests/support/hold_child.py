"""A process that owns a store until it gets a line: `python hold_child.py STORE`."""

from __future__ import annotations

import sys

from firmplan.executor.runs.owner import LockFilePresence


def main() -> None:
    """Say the name of the owner, and let go when told to; then wait again."""
    here = LockFilePresence(sys.argv[1])
    name = here.new_name(30.0)
    here.acquire(name)
    print(name, flush=True)  # noqa: T201  # what the test reads
    if sys.stdin.readline():
        here.release(name)
        print("released", flush=True)  # noqa: T201
        sys.stdin.readline()


if __name__ == "__main__":
    main()
