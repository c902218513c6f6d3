"""The runtime's subcommands, one module each; `differnet_runtime.cli` finds them.

These modules are imported on every start of `differnet`: each keeps its heavy imports inside
its `run`.
"""
