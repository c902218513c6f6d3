"""The flow: parity with the original's recorded numbers, inverse, log-determinant."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from differnet_runtime.model_file.metadata import FlowSpec
from differnet_training.flow import (
    CouplingBlock,
    NormalizingFlow,
    likelihood_score,
    negative_log_likelihood,
    z2_score,
)
from differnet_training.gaussian import Gaussian


def make_flow(spec: FlowSpec, *, seed: int = 0, dtype: torch.dtype = torch.float64):
    torch.manual_seed(seed)
    flow = NormalizingFlow(spec).to(dtype)
    for parameter in flow.parameters():  # away from the near-identity of the default weights
        parameter.data.mul_(2.0)
    if flow.whitening is not None:
        rows = np.random.RandomState(seed).randn(200, spec.features)
        mixed = rows @ np.random.RandomState(seed + 1).randn(spec.features, spec.features)
        flow.whitening.set(Gaussian.of(mixed.mean(axis=0), np.cov(mixed.T)))
    return flow.eval()


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


class TestParityWithTheOriginal:
    def test_z_is_reproduced(self, original_flow):
        flow, recorded = original_flow
        z, _ = flow(torch.from_numpy(recorded["x"]))
        assert relative(z.detach().numpy(), recorded["z"]) <= 1e-5

    def test_log_determinant_is_reproduced(self, original_flow):
        flow, recorded = original_flow
        _, log_det = flow(torch.from_numpy(recorded["x"]))
        assert relative(log_det.detach().numpy(), recorded["log_jac"]) <= 1e-5

    def test_loss_is_reproduced(self, original_flow):
        flow, recorded = original_flow
        loss = negative_log_likelihood(*flow(torch.from_numpy(recorded["x"])))
        assert relative(loss.detach().numpy(), recorded["loss"]) <= 1e-5

    def test_score_is_reproduced(self, original_flow):
        flow, recorded = original_flow
        score = z2_score(flow(torch.from_numpy(recorded["x"]))[0])
        assert relative(score.detach().numpy(), recorded["score"]) <= 1e-5


SPECS = [
    FlowSpec(features=12, blocks=3, width=16),
    FlowSpec(features=7, blocks=2, width=16),  # odd: the second half has one feature more
    FlowSpec(features=12, blocks=2, width=8, clamp=1.0, whitened=True),
]


@pytest.mark.parametrize("spec", SPECS, ids=["even", "odd", "whitened"])
class TestMathematics:
    def test_inverse_undoes_forward(self, spec):
        flow = make_flow(spec)
        x = torch.randn(32, spec.features, dtype=torch.float64)
        assert torch.allclose(flow.inverse(flow(x)[0]), x, atol=1e-9)

    def test_log_determinant_is_that_of_the_jacobian(self, spec):
        flow = make_flow(spec)
        x = torch.randn(4, spec.features, dtype=torch.float64)
        _, log_det = flow(x)
        for row, value in zip(x, log_det, strict=True):
            jacobian = torch.autograd.functional.jacobian(lambda v: flow(v[None])[0][0], row)
            assert abs(torch.linalg.slogdet(jacobian)[1] - value) <= 1e-8

    def test_gradients_reach_every_parameter(self, spec):
        flow = make_flow(spec)
        x = torch.randn(16, spec.features, dtype=torch.float64)
        negative_log_likelihood(*flow(x)).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in flow.parameters())

    def test_saved_and_loaded_gives_the_same_numbers(self, spec):
        flow = make_flow(spec)
        other = make_flow(spec, seed=5)
        other.load_state_dict(flow.state_dict())
        x = torch.randn(8, spec.features, dtype=torch.float64)
        assert torch.equal(flow(x)[0], other(x)[0])


def test_inverse_in_single_precision(original_flow):
    flow, recorded = original_flow
    x = torch.from_numpy(recorded["x"])
    assert (flow.inverse(flow(x)[0]) - x).abs().max() <= 1e-4


@settings(max_examples=25)
@given(scale=st.floats(1e-3, 1e4), seed=st.integers(0, 1000))
def test_log_scales_stay_within_the_clamp(scale, seed):
    block = CouplingBlock(6, 8, 3.0, 0.0, seed=0)
    torch.manual_seed(seed)
    for parameter in block.parameters():
        parameter.data.mul_(scale)
    _, log_det = block(torch.randn(16, 6))
    assert log_det.abs().max() < 6 * 3.0


def test_outputs_are_clamped():
    block = CouplingBlock(6, 8, 3.0, 0.0, seed=0)
    z, _ = block(torch.full((1, 6), 1e30))
    assert z.abs().max() == 1e6


def test_permutations_are_the_originals():
    block = CouplingBlock(768, 2, 3.0, 0.0, seed=0)
    assert block.permutation[:10].tolist() == [661, 122, 113, 14, 529, 103, 338, 588, 395, 204]


def test_subnets_run_once_per_pass():
    flow = make_flow(FlowSpec(features=6, blocks=2, width=4))
    calls = []
    for block in flow.blocks:
        for subnet in (block.subnet1, block.subnet2):
            subnet.register_forward_hook(lambda *_: calls.append(1))
    flow(torch.randn(3, 6, dtype=torch.float64))
    assert len(calls) == 4


def test_likelihood_score_is_the_density_of_a_standard_normal_up_to_a_constant():
    z = torch.randn(100, 5, dtype=torch.float64)
    density = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(dim=1)
    score = likelihood_score(z, torch.zeros(100, dtype=torch.float64))
    constant = torch.full((100,), np.log(2 * np.pi), dtype=torch.float64)
    assert torch.allclose(-2 * density / 5 - score, constant)


def test_whitened_features_have_unit_covariance():
    flow = make_flow(FlowSpec(features=6, blocks=1, width=4, whitened=True))
    rows = np.random.RandomState(0).randn(5000, 6) @ np.random.RandomState(1).randn(6, 6)
    flow.whitening.set(Gaussian.of(rows.mean(axis=0), np.cov(rows.T)))
    z, _ = flow.whiten(torch.from_numpy(rows))
    assert np.allclose(np.cov(z.numpy().T), np.eye(6), atol=1e-6)
