"""Builds a model with our builder and NVIDIA's real compiler, TensorRT-RTX, and prints what came.

`python build_on_rtx.py MODEL PRECISION TIMING_CACHE`; TensorRT-RTX has TensorRT's names.
"""

import json
import logging
import sys
import warnings
from pathlib import Path

import tensorrt_rtx

sys.modules["tensorrt"] = tensorrt_rtx
# It deprecates timing caches, which TensorRT has and our builder keeps.
warnings.filterwarnings("ignore", category=DeprecationWarning)

from differnet_runtime.backends.tensorrt.builder import BuildRecipe, build_plan  # noqa: E402
from differnet_runtime.backends.tensorrt.identity import STRONG  # noqa: E402
from differnet_runtime.errors import EngineError  # noqa: E402

logging.disable(logging.CRITICAL)
recipe = BuildRecipe(
    batch=2,
    precision="fp16" if sys.argv[2] == "fp16" else "fp32",
    typing=STRONG,
    level=3,
    workspace_bytes=2**28,
    timing_cache=Path(sys.argv[3]),
)
shares: list[float] = []
plan = build_plan(Path(sys.argv[1]).read_bytes(), recipe, shares.append)
try:
    build_plan(b"no graph", recipe, shares.append)
except EngineError as error:
    refused = str(error)
sys.stdout.write(json.dumps({"plan": len(plan), "shares": shares, "refused": refused}))
