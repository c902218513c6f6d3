import numpy as np

from differnet_runtime.benchmark.report import STAGES, Row, Samples, tables

ABOUT = {
    "cuda_graph": "not used: it was not asked for",
    "file_mb": 3.14,
    "peak_host_memory_mib": 512.3,
    "temperatures_before": {"cpu-thermal": 48.25, "gpu-thermal": 47.0},
    "temperatures_after": {"cpu-thermal": 53.5},
}


def row(**changes: object) -> Row:
    samples = Samples(np.full((2, 5), 2.0))
    return Row(
        **{
            "model": "part.onnx",
            "precision": "fp32",
            "contender": "tensorrt",
            "batches": {1: samples},
            "stages": dict.fromkeys(STAGES, samples),
            "total": samples,
            "about": ABOUT,
            **changes,
        }  # type: ignore[arg-type]
    )


def test_the_text_tells_what_was_run_and_how_warm_it_was() -> None:
    shown = tables([row()])
    assert "not used: it was not asked for" in shown
    assert "cpu-thermal 48.2 to 53.5, gpu-thermal 47.0 to ?" in shown
    assert "file, MB" in shown
    assert "3.1" in shown
    assert "peak of the host's memory (not the GPU's), MiB" in shown
    assert "512" in shown


def test_a_machine_without_graph_and_temperatures_says_so() -> None:
    nothing = dict.fromkeys(("cuda_graph", "temperatures_before", "temperatures_after"))
    line = tables([row(about=ABOUT | nothing)]).splitlines()[-1]
    assert " ".join(line.split()) == "part.onnx tensorrt none this machine tells none 3.1 512"


def test_a_part_that_failed_stands_beside_the_figures() -> None:
    shown = tables([row(total=None, stages={}, failed={"batch 64": "too little memory"})])
    assert "part.onnx (fp32)" in shown
    assert "Not measured:\n  part.onnx, tensorrt, batch 64: too little memory" in shown
