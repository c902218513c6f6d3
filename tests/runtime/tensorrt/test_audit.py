"""The audit over layers as three generations of TensorRT list them."""

import copy
import json
from typing import Any

import pytest

from differnet_runtime.backends.tensorrt.audit import (
    AuditReport,
    Layer,
    audit,
    listed_weight_bytes,
    read_layers,
)

WIDTH = 8192
MATRIX_BYTES = WIDTH * WIDTH * 2


def tensor(name: str, kind: str, *shape: int) -> dict[str, Any]:
    """As TensorRT 11 and RTX list one."""
    return {
        "Name": name,
        "Dimensions": list(shape),
        "Datatype": kind,
        "Format": "(Linear) Row major linear format",
    }


def kernels() -> list[Layer]:
    """A fused engine: preprocessing, a fully connected layer in halves, coupling and score."""
    return [
        {
            "Name": "__myl_CastTran_0",
            "LayerType": "kgen",
            "Inputs": [tensor("image", "UInt8", 1, 64, 64, 3)],
            "Constants": [],
            "Outputs": [tensor("a", "Half", 1, WIDTH)],
        },
        {"Name": "signal_1", "LayerType": "signal", "Inputs": [], "Outputs": []},
        {
            "Name": "__myl_FcAddMaxMin_1",
            "LayerType": "gemm",
            "Inputs": [tensor("a", "Half", 1, WIDTH)],
            "Constants": [
                tensor("w", "Half", WIDTH, WIDTH),
                tensor("bias", "Half", 1, WIDTH),
                tensor("scale", "Float", 1),
            ],
            "Outputs": [tensor("s", "Half", 1, WIDTH)],
        },
        {
            "Name": "__myl_ExpMulAddMean_2",
            "LayerType": "kgen",
            "Inputs": [tensor("s", "Half", 1, WIDTH), tensor("z", "Float", 1, WIDTH)],
            "Constants": [tensor("mean", "Float", 1, 768)],
            "Outputs": [tensor("score", "Float", 1, 1)],
        },
    ]


def judge(layers: list[Layer], **changes: Any) -> AuditReport:
    facts: dict[str, Any] = {
        "precision": "fp16",
        "weight_bytes": MATRIX_BYTES,
        "plan_bytes": MATRIX_BYTES + 500_000,
    }
    return audit(layers, **{**facts, **changes})


def outcomes(report: AuditReport) -> list[str]:
    return [check.outcome for check in report.checks]


def test_what_the_graph_says_is_shown() -> None:
    report = judge(kernels())
    assert outcomes(report) == ["shown", "shown", "shown"]
    assert report.kernels == 3
    assert report.contradicted == ()


def test_a_single_precision_matrix_fails_by_name_and_by_bytes() -> None:
    layers = kernels()
    layers[2]["Constants"][0]["Datatype"] = "Float"
    report = judge(layers, plan_bytes=2 * MATRIX_BYTES)
    assert outcomes(report) == ["contradicted", "contradicted", "shown"]
    assert "w with 67108864 weights" in str(report.contradicted[1])
    assert "268.5 MB listed, 134.2 MB expected; the plan takes 268.4 MB" in str(
        report.contradicted[0]
    )


def test_a_constant_that_two_kernels_read_counts_once() -> None:
    layers = kernels()
    again = copy.deepcopy(layers[2])
    assert listed_weight_bytes([*layers, again]) == listed_weight_bytes(layers)


def test_a_constant_listed_under_two_names_is_judged_by_the_plan() -> None:
    """RTX lists what the three scales share once for each, under a name of its own."""
    layers = kernels()
    again = copy.deepcopy(layers[2])
    again["Constants"][0]["Name"] = "w_again"
    assert outcomes(judge([*layers, again])) == ["shown", "shown", "shown"]
    assert outcomes(judge([*layers, again], plan_bytes=2 * MATRIX_BYTES))[0] == "contradicted"


def test_an_fp32_graph_may_have_fp32_matrices() -> None:
    layers = kernels()
    layers[2]["Constants"][0]["Datatype"] = "Float"
    report = judge(layers, precision="fp32", weight_bytes=2 * MATRIX_BYTES)
    assert outcomes(report) == ["shown", "shown"]  # the rule on halves is not asked


@pytest.mark.parametrize(
    ("inputs", "output", "expected"),
    [
        (["Half", "Float"], "Float", "shown"),
        (["Float"], "Float", "shown"),
        (["Half", "Half"], "Float", "contradicted"),
        (["Half", "Float"], "Half", "contradicted"),
        (["Half", "N/A due to dynamic shapes"], "Float", "not shown"),
        (["Int8"], "Float", "not shown"),
        (["Int8", "Half"], "Float", "not shown"),
        ([], "Float", "not shown"),
    ],
)
def test_the_score_must_come_from_latents_in_fp32(
    inputs: list[str], output: str, expected: str
) -> None:
    layers = kernels()
    layers[3]["Inputs"] = [tensor(f"x{n}", kind, 1, 768) for n, kind in enumerate(inputs)]
    layers[3]["Outputs"] = [tensor("score", output, 1)]
    assert outcomes(judge(layers))[2] == expected


def older(name: str, text: str, *shape: int) -> dict[str, Any]:
    """As TensorRT 8.6 and 10 list a tensor."""
    return {
        "Name": name,
        "Location": "Device",
        "Dimensions": list(shape),
        "Format/Datatype": text,
    }


def classic(weights: str) -> list[Layer]:
    return [
        {
            "Name": "fc1",
            "LayerType": "CaskGemmMatrixMultiply",
            "Inputs": [older("a", "Row major linear FP16 format", 1, WIDTH)],
            "Outputs": [older("s", "Row major linear FP32", 1, WIDTH)],
            "ParameterType": "Convolution",
            "Weights": {"Type": weights, "Count": WIDTH * WIDTH},
            "Bias": {"Type": "Float", "Count": WIDTH},
            "TacticValue": "0x00000000000003ea",
        },
        {
            "Name": "reduce",
            "LayerType": "Reduce",
            "Inputs": [older("s", "Row major linear FP32", 1, WIDTH)],
            "Outputs": [older("score", "Row major linear FP32", 1)],
        },
    ]


def test_the_older_form_is_read() -> None:
    assert outcomes(judge(classic("Half"))) == ["shown", "shown", "shown"]
    assert outcomes(judge(classic("FP16"))) == ["shown", "shown", "shown"]
    for single in ("Float", "FP32"):
        report = judge(classic(single), plan_bytes=2 * MATRIX_BYTES)
        assert outcomes(report) == ["contradicted", "contradicted", "shown"]


def test_one_opaque_layer_is_judged_by_the_plan() -> None:
    """8.6's Myelin may fuse all of it, and tell nothing of the weights."""
    opaque: list[Layer] = [
        {
            "Name": "{ForeignNode[image...score]}",
            "LayerType": "Myelin",
            "Inputs": [older("image", "Row major linear UINT8 format", 1, 64, 64, 3)],
            "Outputs": [older("score", "Row major linear FP32", 1)],
        }
    ]
    assert outcomes(judge(opaque))[:2] == ["shown", "not shown"]
    assert outcomes(judge(opaque, plan_bytes=2 * MATRIX_BYTES))[0] == "contradicted"
    # A small model's doubled weights could be the plan's other contents.
    assert outcomes(judge(opaque, weight_bytes=10**6, plan_bytes=2 * 10**6))[0] == "not shown"


def test_a_region_that_is_fused_as_a_whole_shows_nothing_of_its_inside() -> None:
    layers = kernels()
    layers[3]["Name"] = "{ForeignNode[/flow/Mul.../score]}"
    assert outcomes(judge(layers))[2] == "not shown"
    layers[3]["Outputs"] = [tensor("score", "Half", 1)]
    assert outcomes(judge(layers))[2] == "contradicted"


def test_a_part_of_the_matrices_shows_nothing_of_the_others() -> None:
    report = judge(kernels(), weight_bytes=2 * MATRIX_BYTES, plan_bytes=2 * MATRIX_BYTES)
    assert outcomes(report)[1] == "not shown"
    assert "none among the 134.2 MB of 268.4 MB that are listed" in str(report.checks[1])


def test_a_small_models_listed_weights_show_only_what_they_can() -> None:
    layers = kernels()
    layers[2]["Constants"] = [tensor("w", "Float", 500, 500)]
    facts = {"weight_bytes": 500_000, "plan_bytes": 1_000_000}
    assert outcomes(judge(layers, **facts))[0] == "not shown"  # 1 MB of 0.5 MB: no evidence
    layers[2]["Constants"] = [tensor("w", "Half", 500, 500)]
    assert outcomes(judge(layers, **facts))[0] == "shown"


def test_what_is_not_shown_is_said_and_counted_apart() -> None:
    report = judge(read_layers("{}"), weight_bytes=10**6, plan_bytes=10**6)
    assert report.summary == "0 of 3 rules shown; 3 not shown, since the inspector does not tell"
    assert judge(kernels()).summary == "3 of 3 rules shown"
    layers = kernels()
    layers[2]["Constants"][0]["Datatype"] = "Float"
    told = judge(layers, plan_bytes=2 * MATRIX_BYTES).summary
    assert told == "1 of 3 rules shown, 2 contradicted"


def test_an_inspector_that_tells_nothing_contradicts_nothing() -> None:
    for text in ('{"Layers": []}', '{"Layers": ["fc1", "reduce"], "Bindings": ["image"]}', "{}"):
        report = judge(read_layers(text), weight_bytes=10**6, plan_bytes=10**6)
        assert outcomes(report) == ["not shown"] * 3
        assert report.kernels == 0


def test_the_inspectors_json_is_read_and_the_report_is_kept_as_it_is() -> None:
    layers = read_layers(json.dumps({"Layers": kernels(), "I/O Tensors": []}))
    report = judge(layers)
    assert AuditReport.model_validate_json(report.model_dump_json()) == report
    assert report == judge(kernels())
