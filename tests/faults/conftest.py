"""The tiny models of the runtime's tests."""

from tests.runtime.conftest import calibration, metadata, onnx_bytes, sound_model, tiny_model

__all__ = ["calibration", "metadata", "onnx_bytes", "sound_model", "tiny_model"]
