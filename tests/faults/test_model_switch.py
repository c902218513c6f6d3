"""Models change under load, some of them bad: no frame is judged by a wrong one."""

import threading
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from differnet_runtime.errors import DifferNetError, EngineFault
from differnet_runtime.inference.messages import EngineState
from differnet_runtime.inference.process import EngineProcess, ModelSwitch
from differnet_runtime.inspection.preprocess import golden_frames
from differnet_runtime.model_file.file import content_hash, write_model_file
from differnet_runtime.model_file.metadata import ModelMetadata, Verification
from tests.runtime.waiting import wait_for

SIZE = 32
BRIGHTNESS = 250
"""Of the frames under load; the golden frames are darker."""


def fading_graph() -> onnx.ModelProto:
    """A graph that scores the golden frames, but gives NaN for a bright one."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["limit", "mean"], ["rest"]),
        helper.make_node("Sqrt", ["rest"], ["score"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])
    limit = helper.make_tensor("limit", TensorProto.FLOAT, [], [200.0])
    graph = helper.make_graph(nodes, "fading", [image], [score], [limit])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def write_fading(path: Path, metadata: ModelMetadata) -> Path:
    means = [float(frame.mean()) for frame in golden_frames(metadata.input)]
    verification = Verification(
        frames=3,
        greatest_relative_difference=0.0,
        golden_scores=tuple((200.0 - mean) ** 0.5 for mean in means),
    )
    graph = fading_graph().SerializeToString()
    write_model_file(path, graph, metadata.replaced(verification=verification))
    return path


class Load:
    """Cameras that have frames scored without a pause, and remember which model said what."""

    def __init__(self, switch: ModelSwitch, cameras: int = 2) -> None:
        self._switch = switch
        self._stop = threading.Event()
        self.answers: list[tuple[str, float]] = []
        self.faults: list[EngineFault] = []
        self._threads = [threading.Thread(target=self._camera) for _ in range(cameras)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _camera(self) -> None:
        while not self._stop.is_set():
            try:
                with self._switch.lease() as engine, engine.turn(5.0):
                    frame = engine.buffer()
                    frame[:] = BRIGHTNESS
                    answer = engine.infer(frame)
                self.answers.append((answer.model_hash, answer.score.value))
            except EngineFault as fault:
                self.faults.append(fault)
            self._stop.wait(0.002)


def bad_model(kind: int, path: Path, sound_model: Callable[..., Path], data: ModelMetadata) -> Path:
    """Writes a model that is damaged, scores its golden frames wrong, or fails only under load."""
    if kind == 0:
        whole = sound_model("cut.onnx").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        return path
    if kind == 1:
        return sound_model(path.name, factor=3.0, golden=2.0)
    return write_fading(path, data)


@pytest.mark.parametrize(
    ("switches", "bad"),
    [pytest.param(8, 3, id="short"), pytest.param(100, 30, id="full", marks=pytest.mark.slow)],
)
def test_no_frame_is_judged_by_a_wrong_model(
    switches: int,
    bad: int,
    sound_model: Callable[..., Path],
    metadata: ModelMetadata,
    tmp_path: Path,
) -> None:
    def make(path: Path) -> EngineProcess:
        return EngineProcess(path, backend="onnxruntime-cpu", threads=1, deadline_s=5.0)

    first = sound_model("first.onnx")
    factors = {content_hash(first.read_bytes()): 1.0}
    fading = content_hash(write_fading(tmp_path / "fading.onnx", metadata).read_bytes())
    engine = make(first)
    engine.start()
    assert engine.wait_ready(30.0)
    switch = ModelSwitch(engine, make, answers=5)
    refused = 0
    numbers = range(switches)
    bad_ones = {round(k * switches / bad) for k in range(bad)}
    with Load(switch) as load:
        for number in numbers:
            before = switch.engine.model_hash
            path = tmp_path / f"model{number}.onnx"
            if number in bad_ones:
                bad_model(number % 3, path, sound_model, metadata)
                with pytest.raises(DifferNetError):
                    switch.to(path)
                refused += 1
                assert switch.engine.model_hash == before
            else:
                factor = 2.0 + number / 8
                sound_model(path.name, factor=factor)
                factors[content_hash(path.read_bytes())] = factor
                assert switch.to(path).model_hash == switch.engine.model_hash != before
    switch.stop()
    assert refused == bad
    assert len({model for model, _ in load.answers}) == 1 + switches - bad
    for model, score in load.answers:
        assert score == pytest.approx(factors[model] * BRIGHTNESS, rel=1e-5)
    assert fading not in {model for model, _ in load.answers}
    assert {fault.code for fault in load.faults} <= {"not_finite"}  # by one that was taken back


def test_it_stops_while_a_model_is_changed() -> None:
    made: list[EngineProcess] = []

    def make(path: Path) -> EngineProcess:
        made.append(EngineProcess(None, backend="fake:hang@0"))
        return made[-1]

    engine = EngineProcess(None, backend="fake")
    engine.start()
    assert engine.wait_ready(30.0)
    switch = ModelSwitch(engine, make)
    raised: list[Exception] = []

    def change() -> None:
        try:
            switch.to(Path("new.onnx"))
        except EngineFault as fault:
            raised.append(fault)

    changing = threading.Thread(target=change)
    changing.start()
    wait_for(lambda: bool(made) and made[0].status.pid is not None)
    switch.stop(4.0)
    changing.join(4.0)
    assert not changing.is_alive()
    assert raised
    assert engine.status.state is EngineState.STOPPED
