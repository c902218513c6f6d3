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

sys.path.append(str(Path(__file__).parents[2]))
from differnet_runtime.backends.tensorrt.build import BuildRequest  # noqa: E402
from differnet_runtime.backends.tensorrt.builder import build_plan  # noqa: E402
from differnet_runtime.errors import EngineError  # noqa: E402
from tests.fakes.identities import orin  # noqa: E402

logging.disable(logging.CRITICAL)
timing_cache = Path(sys.argv[3])
request = BuildRequest(
    model=Path(sys.argv[1]),
    identity=orin(batch=2, precision=sys.argv[2], workspace_mib=256),
    plan=timing_cache.with_name("plan"),
    timing_cache=timing_cache,
)
shares: list[float] = []
plan = build_plan(Path(sys.argv[1]).read_bytes(), request, shares.append)
try:
    build_plan(b"no graph", request, shares.append)
except EngineError as error:
    refused = str(error)
sys.stdout.write(json.dumps({"plan": len(plan), "shares": shares, "refused": refused}))
