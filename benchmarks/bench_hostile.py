"""What hostile data can do, and what users can still do: tasks and attacks of `examples/evals/hostile`, under each setting.

    python benchmarks/bench_hostile.py [--setting NAME ..] [--only ID ..] [--details]

Each row is a setting of the engine, and who is there to be asked. `tasks done` and `tasks that ask` are without an attack; `harm` counts pairs of
task and attack in which a write or an egress was the attacker's with nobody asked, `harm, adaptive` the same of attacks that bring a plan that
aims at a defence; `let through` counts attacks that a person approved, `influence` those that chose among what author and person left open.
Exits with 1 where harm is done under the recommended setting.
"""

from __future__ import annotations

import sys

from firmplan.examples.evals.hostile.suite import main

if __name__ == "__main__":
    sys.exit(main())
