"""Plans written in Python: `PlanBuilder`, its step handles, and references such as `step.out.field`.

The folder turns Python calls into the same plan value that YAML and JSON give, and a plan back into builder calls. It knows the plan value and the
check; it does not know how a plan is stored or run. Begin with `builder.py`.
"""
