"""A process with an outbox that is meant to be killed: it adds events, and says which it has.

Arguments: folder, port of the broker, events a second, how many. Prints `COMMITTED n` whenever the
first n events are on disk.
"""

import sys
import time
from pathlib import Path

from differnet_runtime.config import Config
from differnet_runtime.events import StateEvent
from differnet_runtime.outbox.delivery import Delivery
from differnet_runtime.outbox.outbox import Outbox
from differnet_runtime.sinks import build_sinks


def main() -> None:
    folder, port, rate, count = Path(sys.argv[1]), *(int(value) for value in sys.argv[2:5])
    config = Config.model_validate(
        {
            "model": {"backend": "fake"},
            "camera": {"top": {"source": "0"}},
            "mqtt": {"host": "127.0.0.1", "port": port, "keepalive_s": 2},
        }
    )
    outbox = Outbox(folder / "outbox.sqlite", config.events)
    sinks = build_sinks(config)
    outbox.use_sinks([sink.name for sink in sinks])
    outbox.start()
    for sink in sinks:
        Delivery(outbox, sink).start()
    start, said = time.monotonic(), 0
    for number in range(count):
        outbox.add(StateEvent(station="line", component="station", state=f"{number}"))
        time.sleep(max(0.0, start + (number + 1) / rate - time.monotonic()))
        if (committed := outbox.status.committed) > said:
            said = say(committed)
    while True:
        if (committed := outbox.status.committed) > said:
            said = say(committed)
        time.sleep(0.02)


def say(committed: int) -> int:
    sys.stdout.write(f"COMMITTED {committed}\n")
    sys.stdout.flush()
    return committed


if __name__ == "__main__":
    main()
