"""A small `tensorrt` for tests: its plans hold the ONNX file, and ONNX Runtime runs them.

It has of the real bindings what the product uses, under the same names and with the same habits:
failures are logged and answered with None or False. `FAKETRT_VERSION` sets its version.
"""

import os

from ._builder import *  # noqa: F403
from ._runtime import (
    DataType,
    EngineInspector,
    ICudaEngine,
    IExecutionContext,
    ILogger,
    LayerInformationFormat,
    Logger,
    Runtime,
    TensorIOMode,
    write_plan,
)

__version__ = os.environ.get("FAKETRT_VERSION", "10.3.0")
__all__ = [
    "DataType",
    "EngineInspector",
    "ICudaEngine",
    "IExecutionContext",
    "ILogger",
    "LayerInformationFormat",
    "Logger",
    "Runtime",
    "TensorIOMode",
    "write_plan",
]
