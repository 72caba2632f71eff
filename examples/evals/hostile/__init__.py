"""Tasks and attacks in three small worlds, to measure whether plans stay safe and useful when their data is hostile.

`suite.py` runs each task under each attack and each setting; begin there. `stage.py` is what the worlds share, `bank.py`, `mail.py` and
`web.py` are their tools, and the YAML files beside them hold tasks and attacks. None of it is shipped with firmplan.
"""
