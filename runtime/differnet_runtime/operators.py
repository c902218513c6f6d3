"""Names the operators that a model file's graph may use; all others are refused.

They belong to ONNX's standard domain and compute their outputs from their inputs alone: none loops,
branches, draws random numbers, or reads a file.
"""

from __future__ import annotations

OF_RECIPES = frozenset(
    ("Add", "Atan", "AveragePool", "Cast", "Clip", "Concat", "Conv",
     "DequantizeLinear", "Div", "Elu", "Exp",
     "Flatten", "Gather", "Gemm", "Log", "MatMul", "MaxPool", "Mul",
     "QuantizeLinear", "ReduceMax", "ReduceMean",
     "ReduceSum", "Relu", "Reshape", "Shape", "Slice", "Split", "Sqrt", "Sub", "Transpose",
     "Unsqueeze")
)  # fmt: skip
"""What `export` writes for its own recipes and for imported models."""

OF_NETWORKS = frozenset(
    ("Abs", "BatchNormalization", "Ceil", "ConstantOfShape", "Cos", "CumSum", "DepthToSpace",
     "Einsum", "Equal", "Erf", "Expand", "Floor", "GlobalAveragePool", "GlobalMaxPool",
     "HardSigmoid", "HardSwish", "Identity", "InstanceNormalization", "LayerNormalization",
     "LeakyRelu", "Max", "Min", "Mod", "Neg", "Not", "PRelu", "Pad", "Pow", "Range", "Reciprocal",
     "ReduceL2", "ReduceMin", "Resize", "Sigmoid", "Sin", "Softmax", "Softplus", "SpaceToDepth",
     "Squeeze", "Tanh", "Tile", "Where")
)  # fmt: skip
"""What the networks of timm use besides."""

ALLOWED = OF_RECIPES | OF_NETWORKS
OPSETS = range(13, 18)
"""Versions of the standard domain; `export` writes 17, the last that TensorRT 8.6 reads."""
