"""The spectral density against the eigenvalues themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance

from thalweg.curvature import Dense, Expression
from thalweg.curvature.density import spectral_density
from thalweg.errors import NonFiniteError
from unit.curvature.spectra import rotated, trained


def distance(density, values):
    """Wasserstein distance to the true histogram, as a share of the spectrum's width."""
    nodes, weights = density.nodes.reshape(-1).numpy(), density.weights.reshape(-1).numpy()
    found = wasserstein_distance(values, nodes, None, weights)
    return found / (values.max() - values.min())


@pytest.mark.parametrize("reorthogonalize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_density_of_a_trained_spectrum(dtype, reorthogonalize):
    values = trained(3000)
    A = rotated(values, dtype)
    density = spectral_density(A, probes=5, reorthogonalize=reorthogonalize)
    assert distance(density, values) < 5e-4
    assert density.products == A.products == 400
    assert density.edges[1] == pytest.approx(100.0, rel=1e-5)
    # It is this spectrum and none beside it that is so near.
    assert distance(density, values + 0.2) > 3 * distance(density, values)


@pytest.mark.parametrize("shape", ["wigner", "uniform", "wishart"])
def test_density_of_known_laws(shape):
    rng = np.random.default_rng(0)
    if shape == "wigner":
        matrix = rng.normal(size=(600, 600))
        values = np.linalg.eigvalsh((matrix + matrix.T) / np.sqrt(1200))
    elif shape == "uniform":
        values = np.linspace(-1, 2, 600)
    else:
        matrix = rng.normal(size=(300, 600)) / np.sqrt(600)
        values = np.linalg.eigvalsh(matrix.T @ matrix)  # half of them zero
    density = spectral_density(rotated(values), steps=60, probes=10)
    assert distance(density, values) < 0.01
    grid = torch.linspace(values.min() - 1, values.max() + 1, 4001, dtype=torch.float64)
    height, error = density.evaluate(grid, 0.05)
    exact = np.exp(-0.5 * ((grid.numpy()[:, None] - values) / 0.05) ** 2).mean(1)
    exact /= 0.05 * math.sqrt(2 * math.pi)
    allowed = 5 * error.numpy() + 0.03 * exact.max()
    assert (np.abs(height.numpy() - exact) <= allowed).all()
    assert error.max() < 0.15 * exact.max()
    assert float(torch.trapezoid(height, grid)) == pytest.approx(1.0, abs=1e-6)


def test_whole_spectrum_of_a_small_operator():
    values = np.array([-1.0, 0.5, 0.5, 3.0])
    density = spectral_density(Dense(torch.diag(torch.tensor(values))), probes=3)
    # Rademacher probes have the same share in every coordinate.
    assert density.mass_below(0.0).value == pytest.approx(0.25)
    assert density.mass_below(1.0).value == pytest.approx(0.75)
    assert density.mass_below(1.0).stderr == pytest.approx(0.0, abs=1e-12)
    shares, _, borders = density.histogram(4)
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.0, 0.25], atol=1e-12)
    np.testing.assert_allclose(borders, [-1, 0, 1, 2, 3], atol=1e-12)


def test_moments_are_hutchinsons_and_unbiased():
    torch.manual_seed(1)
    matrix = torch.randn(50, 50, dtype=torch.float64)
    matrix = matrix + matrix.T
    truth = [float(torch.linalg.matrix_power(matrix, j).trace()) / 50 for j in (1, 2, 3)]
    density = spectral_density(Dense(matrix), steps=4, probes=400)
    for estimate, exact in zip(density.moments(3), truth, strict=True):
        assert abs(float(estimate) - exact) < 3.5 * float(estimate.stderr)
        assert float(estimate.stderr) > 0


def test_the_interval_covers_the_truth():
    values = np.random.default_rng(2).uniform(-1, 1, size=80)
    A = rotated(values)
    truth = np.mean(values**2)
    covered = 0
    for seed in range(200):
        low, high = spectral_density(A, 4, 8, seed=seed).moment(2).interval()
        covered += low <= truth <= high
    assert 180 <= covered <= 198


def test_brackets_hold_and_tighten():
    values = trained(1500)
    A = rotated(values)
    widths = []
    for steps in (20, 80):
        density = spectral_density(A, steps, probes=10)
        for x in (-0.1, 0.05, 0.2, 20.0):
            low, high = density.bracket(x)
            noise = 4 * float(density.mass_below(x).stderr) + 1e-3
            assert low - noise <= np.mean(values < x) <= high + noise
        widths.append(np.mean(np.diff([density.bracket(x) for x in (-0.1, 0.05, 0.2)])))
    assert widths[1] < 0.6 * widths[0]


def test_one_probe_has_no_error_bar_and_degenerate_operators_have_a_density():
    density = spectral_density(rotated(np.zeros(300)))
    assert density.products == 1
    assert density.edges == (0.0, 0.0)
    assert math.isinf(density.moment(1).stderr)
    height, error = density.evaluate(torch.tensor([0.0]))
    assert height.item() > 0
    assert math.isinf(error.item())
    assert density.histogram(3)[0].tolist() == [0.0, 1.0, 0.0]
    assert spectral_density(rotated([-3.0]), probes=2).edges == pytest.approx((-3.0, -3.0))


def test_one_seed_one_density():
    A = rotated(trained(300))
    first, second = spectral_density(A, 10, seed=1), spectral_density(A, 10, seed=1)
    assert torch.equal(first.nodes, second.nodes)
    assert not torch.equal(first.nodes, spectral_density(A, 10, seed=2).nodes)


def test_bad_arguments_and_products():
    A = Dense(torch.eye(4))
    for name in ("steps", "probes"):
        with pytest.raises(ValueError, match=name):
            spectral_density(A, **{name: 0})
    with pytest.raises(ValueError, match="width"):
        spectral_density(A).evaluate(torch.zeros(1), -1.0)
    with pytest.raises(ValueError, match="symmetric"):
        spectral_density(Expression((3, 3), lambda v: v))
    broken = Expression((9, 9), lambda v: v / 0, symmetric=True)
    with pytest.raises(NonFiniteError, match="spectral_density: product 1"):
        spectral_density(broken)
