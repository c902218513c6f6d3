"""A station that is told to stop while frames are under way: they get an answer, and no fault."""

from pathlib import Path

import pytest

from tests.fakes.running import RunningStation
from tests.faults.test_station import write_clip


@pytest.mark.parametrize(
    ("engine", "codes"), [("fake:80ms", {None}), ("fake:hang@5", {None, "stopped"})]
)
def test_a_normal_stop_is_no_fault_of_the_engine(
    engine: str, codes: set[str | None], tmp_path: Path
) -> None:
    clip = write_clip(tmp_path / "belt.avi")
    tables = "".join(
        f'[camera.{name}]\nsource = "{clip}"\npaced = true\ndeadline_ms = 60000\n'
        for name in ("top", "side")
    )
    model = f'backend = "{engine}"\ndeadline_ms = 60000'
    with RunningStation(tmp_path, tables, model=model) as station:
        first = station.wait_judging() - 1
        if "stopped" in codes:
            station.wait(lambda: scored(station) == 4, what="all frames but the one that hangs")
            read = station.camera("top")["frames"]
            station.wait(
                lambda: station.camera("top").get("frames", 0) > read + 2,
                what="frames that nobody takes while the engine hangs",
            )
        assert station.stop() < 5.0
        assert station.process.returncode == 0
        if "stopped" in codes:  # it was written down last, and may be delivered at the next start
            station.start()
            station.wait(lambda: "stopped" in given(station, first), what="the last answer")
        assert given(station, first) - {"engine_starting"} == codes


def given(station: RunningStation, first: int) -> set[str | None]:
    return {event["code"] for event in station.events("inspection")[first:]}


def scored(station: RunningStation) -> int:
    return sum(event["score"] is not None for event in station.events("inspection"))
