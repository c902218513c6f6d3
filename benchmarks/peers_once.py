"""A first verdict from a clean process: reads a model and a picture, prints the picture's score.

A second line says how much memory the process had resident at most, in MiB.

    python -m benchmarks.peers_once MODEL.onnx PICTURE THREADS

The same few lines for every model, so that only the models differ.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import onnxruntime

from differnet_runtime.benchmark.report import peak_memory_mib

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZE = 256


def session(path: str, threads: int, *, awake: bool = True) -> onnxruntime.InferenceSession:
    """Opens a model on the CPU; its threads stay awake for a while after each run, or sleep."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.intra_op.allow_spinning", str(int(awake)))
    return onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])


def feed(opened: onnxruntime.InferenceSession, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Returns a picture `(256, 256, 3) uint8` BGR as the model's input."""
    wanted = opened.get_inputs()[0]
    if wanted.type == "tensor(uint8)":
        return {wanted.name: picture[None]}
    x = (picture[:, :, ::-1].astype(np.float32) / 255 - np.float32(MEAN)) / np.float32(STD)
    return {wanted.name: np.ascontiguousarray(x.transpose(2, 0, 1)[None])}


def score(opened: onnxruntime.InferenceSession, given: dict[str, np.ndarray]) -> float:
    """Runs the model; returns the picture's score."""
    names = [output.name for output in opened.get_outputs()]
    wanted = next(name for name in ("score", "pred_score") if name in names)
    return float(np.asarray(opened.run([wanted], given)[0]).reshape(-1)[0])


def main() -> None:
    """Prints the score, then the memory."""
    path, picture, threads = sys.argv[1:4]
    image = cv2.resize(cv2.imread(picture), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    opened = session(path, int(threads))
    print(score(opened, feed(opened, image)), flush=True)
    print(peak_memory_mib())


if __name__ == "__main__":
    main()
