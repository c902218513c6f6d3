"""A training beside the station may crash, take too much or be cancelled, and dies alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from differnet_runtime.detector import Detector
from differnet_runtime.errors import ModelFileError, TeachError
from differnet_runtime.model_file.contract import Region
from differnet_runtime.teaching import training as training_module
from differnet_runtime.teaching.files import FOLDER
from differnet_runtime.teaching.job import free_bytes, missing, taken_bytes, usable_threads
from differnet_runtime.teaching.records import TrainingView
from differnet_runtime.teaching.teaching import Teaching
from differnet_runtime.teaching.training import Trainer
from tests.fakes.teaching import FakeSite, frame_of_part, program, trainer
from tests.runtime.waiting import wait_for

LOOK = {
    "findings": [
        {"path": "/x/good/000003.png", "cause": "strange", "detail": "unlike all others",
         "left_out": True},
        {"path": "/x/good/000004.png", "cause": "copy", "detail": "", "left_out": False},
    ]
}  # fmt: skip
FOREVER = "import time; print('ready', flush=True); time.sleep(600)"


class Line:
    """A station with a data set of twelve parts, and what trains it."""

    def __init__(self, folder: Path, trainer: Trainer, **teach: int) -> None:
        self.site = FakeSite(folder, **teach)
        self.folder = self.site.config.station.state / FOLDER / "ring"
        self.teaching = Teaching(self.site, trainer)
        self.teaching.start()
        self.teaching.create("ring", "left", None)
        for seed in range(12):
            self.site.frames["left"] = frame_of_part(seed, size=64)
            assert self.teaching.take("ring").taken

    @property
    def training(self) -> TrainingView:
        found = self.teaching.dataset("ring").training
        assert found is not None
        return found

    def ended(self, within_s: float = 30.0) -> TrainingView:
        wait_for(lambda: self.training.state != "running", within_s)
        return self.training

    def nothing_is_left(self) -> None:
        """No folder of the job, and no picture less."""
        wait_for(lambda: not (self.folder / "job").exists(), 10)
        assert len(list((self.folder / "pictures").glob("*.png"))) == 12
        assert len(self.teaching.dataset("ring").pictures) == 12


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def make(*codes: str, **teach: int) -> Line:
        lines.append(Line(tmp_path / str(len(lines)), trainer(*codes), **teach))
        return lines[-1]

    yield make
    for one in lines:
        one.teaching.stop()


def test_a_training_says_how_far_it_is_and_adds_its_model(
    line: Callable[..., Line], sound_model: Callable[..., Path]
) -> None:
    wait = "import os, time\nwhile not os.path.exists(FOLDER + '/go'): time.sleep(0.01)\n"
    work = (
        "import json, os, shutil, sys\n"
        "pictures = os.listdir(DATA + '/good')\n"
        "assert len(pictures) == 11 and '000002.png' not in pictures, pictures\n"
        "os.makedirs(FOLDER + '/model')\n"
        "open(FOLDER + '/model/look.html', 'w').write('<p>look</p>')\n"
        f"json.dump({{'look': {LOOK!r}}}, open(FOLDER + '/model/training.json', 'w'))\n"
        f"shutil.copy({str(sound_model())!r}, FOLDER + '/model.onnx')\n"
    )
    said = "import sys; print('fitting: 5 of 10, 3 fit/s, so far', file=sys.stderr, flush=True)\n"
    ours = line(said + wait, work)
    ours.teaching.keep("ring", "000002", kept=False)
    ours.teaching.train("ring")
    wait_for(lambda: ours.training.step == "learning", 20)
    assert ours.training.done == pytest.approx(0.225)
    assert ours.training.seconds_left is not None
    view = ours.teaching.view()
    assert (view.trainable, view.reason) == (
        False, "ring is being trained: one training at a time",
    )  # fmt: skip
    with pytest.raises(TeachError, match="cancel the training first"):
        ours.teaching.delete("ring")
    (ours.folder / "job" / "go").touch()
    assert ours.ended().state == "done", ours.training.error
    found = ours.teaching.dataset("ring")
    assert found.model is not None
    stored = ours.site.stored()[0]
    assert (found.model.id, stored.active) == (stored.hash, False)
    assert found.report
    assert ours.teaching.report("ring").read_text() == "<p>look</p>"
    (odd,) = [one for one in found.pictures if one.strange]
    assert (odd.id, odd.cause) == ("000003", "unlike all others, left out")
    ours.nothing_is_left()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; print('differnet: 3 of 12 pictures show no good part:\\n  a.png: black',"
         " file=sys.stderr); sys.exit(2)", "3 of 12 pictures show no good part:\n  a.png: black"),
        ("raise ValueError('no such thing')", "ended with exit code 1; its last line: ValueError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "ended with SIGSEGV"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by the system"),
        ("pass", "model.onnx"),
    ],
)  # fmt: skip
def test_a_training_that_fails_says_why_and_dies_alone(
    line: Callable[..., Line], code: str, why: str
) -> None:
    ours = line(code)
    ours.teaching.train("ring")
    ended = ours.ended()
    assert ended.state == "failed"
    assert why in str(ended.error)
    ours.nothing_is_left()
    assert ours.teaching.view().trainable


def test_a_training_that_takes_too_much_memory_is_ended(line: Callable[..., Line]) -> None:
    ours = line("import time; kept = [bytearray(1 << 20) for _ in range(400)]; time.sleep(600)",
                memory_mib=256)  # fmt: skip
    ours.teaching.train("ring")
    assert "took more than 256 MiB" in str(ours.ended().error)
    ours.nothing_is_left()


def test_a_cancelled_training_ends_with_all_of_its_processes(
    line: Callable[..., Line], tmp_path: Path
) -> None:
    ours = line(
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {FOREVER!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(child.pid))\n"
        "child.wait()"
    )
    ours.teaching.train("ring")
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "", 20)
    pid = int((tmp_path / "pid").read_text())
    assert ours.teaching.cancel("ring").training == ours.training
    ended = ours.ended()
    assert (ended.state, ended.error) == ("cancelled", None)
    wait_for(lambda: not _runs(pid), 10)
    ours.nothing_is_left()
    with pytest.raises(TeachError, match="is not being trained"):
        ours.teaching.cancel("ring")


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_training_gives_way_to_inspection_and_writes_below_its_folder(
    line: Callable[..., Line], tmp_path: Path
) -> None:
    code = (
        "import os, tempfile, subprocess\n"
        "from pathlib import Path\n"
        "own = Path('/proc/self/oom_score_adj').read_text().strip()\n"
        "idle = subprocess.run(['ionice', '-p', str(os.getpid())], capture_output=True).stdout\n"
        "found = [os.nice(0), own, os.getpgid(0) == os.getpid(), tempfile.gettempdir(),\n"
        "         os.environ['HOME'], os.environ['OMP_NUM_THREADS'], idle.decode().strip()]\n"
        f"Path({str(tmp_path / 'found')!r}).write_text('|'.join(map(str, found)))\n"
    )
    ours = line(code)
    ours.teaching.train("ring")
    ours.ended()
    nice, oom, leads, temporary, home, threads, idle = (tmp_path / "found").read_text().split("|")
    assert (nice, oom, leads) == ("19", "1000", "True")
    assert Path(temporary) == Path(home) == ours.folder / "job"
    assert int(threads) == usable_threads() <= max(1, (os.cpu_count() or 1) - 1)
    assert idle in ("idle", "")


STATION = """
    import sys
    from pathlib import Path
    from tests.fakes.teaching import trainer
    from tests.runtime.teaching.test_training import Line

    code = {code!r}
    ours = Line(Path(sys.argv[1]), trainer(code))
    ours.teaching.train("ring")
    sys.stdin.read()
"""


def test_a_station_that_is_killed_takes_its_training_with_it_and_tells_of_it(
    tmp_path: Path,
) -> None:
    pid_file = tmp_path / "pid"
    code = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    text = textwrap.dedent(STATION).replace("{code!r}", repr(code))
    with subprocess.Popen(
        [sys.executable, "-c", text, str(tmp_path / "station")], stdin=subprocess.PIPE
    ) as station:
        wait_for(lambda: pid_file.exists() and pid_file.read_text() != "", 30)
        pid = int(pid_file.read_text())
        assert _runs(pid)
        station.send_signal(signal.SIGKILL)
        station.wait()
    wait_for(lambda: not _runs(pid), 10)
    after = Teaching(FakeSite(tmp_path / "station"), trainer("pass"))
    after.start()
    found = after.dataset("ring")
    assert found.training is not None
    assert found.training.state == "failed"
    assert "the station stopped during the training" in str(found.training.error)
    assert len(found.pictures) == 12
    assert not (after.root / "ring" / "job").exists()
    after.stop()


def test_a_training_is_refused_with_the_reason(
    line: Callable[..., Line], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = line("pass")
    for number in range(1, 5):
        ours.teaching.keep("ring", f"{number:06d}", kept=False)
    with pytest.raises(TeachError, match=r"too few different parts \(8\): collect at least 10"):
        ours.teaching.train("ring")
    monkeypatch.setattr(training_module, "free_bytes", lambda: 100 << 20)
    with pytest.raises(TeachError, match="needs 2048 MiB of free memory, and 100 MiB are free"):
        ours.teaching.train("ring")
    view = ours.teaching.view()
    assert (view.trainable, view.needed_mib, view.free_mib) == (False, 2048, 100)


def test_without_the_extras_the_page_says_what_is_missing(tmp_path: Path) -> None:
    lacking = trainer("pass", lacking=lambda: "training needs torch, which is not installed here")
    ours = Line(tmp_path, lacking)
    assert ours.teaching.view().reason == "training needs torch, which is not installed here"
    with pytest.raises(TeachError, match="needs torch"):
        ours.teaching.train("ring")
    ours.teaching.stop()


def test_what_is_missing_is_found_without_importing_it() -> None:
    code = textwrap.dedent("""
        import importlib.abc, importlib.machinery, sys
        class NoTorch(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("torch", "timm"):
                    raise ModuleNotFoundError(name)
                return None
        sys.meta_path.insert(0, NoTorch())
        from differnet_runtime.teaching.job import missing
        print(missing())
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "training needs torch, timm, which is not installed here" in done.stdout
    code = "import sys; from differnet_runtime.teaching.job import missing; missing();"
    code += "print([name for name in ('torch', 'onnx', 'timm') if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_memory_is_that_of_the_whole_group() -> None:
    free = free_bytes()
    assert free is None or free > 0
    code = "kept = bytearray(64 << 20); " + FOREVER
    with subprocess.Popen(program(code), stdout=subprocess.PIPE, start_new_session=True) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert 64 << 20 <= taken_bytes(child.pid) < 256 << 20
        child.kill()


def test_a_model_that_is_sent_is_added_and_a_damaged_one_refused(
    line: Callable[..., Line], sound_model: Callable[..., Path], tmp_path: Path
) -> None:
    ours = line("pass")
    view = ours.teaching.add_model("ring", sound_model())
    assert view.model is not None
    assert (view.model.threshold, view.model.parts) == (118.0, 40)
    (tmp_path / "damaged.onnx").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match=r"^the uploaded file "):
        ours.teaching.add_model("ring", tmp_path / "damaged.onnx")
    assert ours.teaching.dataset("ring").model == view.model


@pytest.mark.slow
def test_forty_drawn_parts_become_a_model_that_finds_a_scratch(tmp_path: Path) -> None:
    assert missing() is None
    site = FakeSite(tmp_path)
    teaching = Teaching(site)
    teaching.start()
    teaching.create("ring", "left", Region(x=8, y=8, width=80, height=80))
    for seed in range(40):
        site.frames["left"] = frame_of_part(seed, size=96)
        assert teaching.take("ring").taken
    steps = set()

    def ended() -> bool:
        found = teaching.dataset("ring").training
        assert found is not None
        steps.add(found.step)
        return found.state != "running"

    teaching.train("ring")
    wait_for(ended, 300)
    found = teaching.dataset("ring")
    assert found.training is not None
    assert found.training.state == "done", found.training.error
    assert {"learning", "measuring the detection limit"} <= steps
    assert found.model is not None
    assert found.model.name == "ring"
    assert "is found from" in str(found.model.detection_limit)
    assert b"<html" in teaching.report("ring").read_bytes()
    (stored,) = site.stored()
    with Detector(stored.path) as detector:
        assert detector.metadata.input.region == Region(x=8, y=8, width=80, height=80)
        good = [detector(frame_of_part(seed, size=96).image) for seed in range(100, 110)]
        bad = [detector(frame_of_part(seed, size=96, defect=True).image) for seed in range(5)]
    assert sum(one.verdict.value == "GOOD" for one in good) >= 8
    assert all(one.verdict.value == "DEFECT" for one in bad)
    assert not (teaching.root / "ring" / "job").exists()
    teaching.stop()
