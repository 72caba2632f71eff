"""Plans written in Python: `PlanBuilder`, and references such as `step.field` that become expressions.

The folder turns Python calls into the same plan value that YAML and JSON give. It knows the plan value and the check, which `build` calls; it does not
know how a plan is stored or run. Begin with `builder.py`.
"""
