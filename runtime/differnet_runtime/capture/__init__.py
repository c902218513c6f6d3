"""A camera in a process of its own, which may hang, crash or be killed without harm to the station.

`process` starts it and watches it; `child` runs in it. They talk by `messages`, and frames travel
in memory that both share.
"""
