"""Curvature: linear operators known by their products, and what can be estimated from them.

Operators (:class:`Hessian`, :class:`GGN`, :class:`Fisher` and the others) take a snapshot of a
closure and multiply vectors. Estimators take any operator and return a value with its error and its
cost in products. :func:`inspect` puts them together into advice; :class:`CurvatureMonitor` follows
them through a training run.
"""

from thalweg.curvature.alignment import Alignment, alignment
from thalweg.curvature.batches import How
from thalweg.curvature.condition import ConditionNumber, condition_number
from thalweg.curvature.covariance import GradientCovariance
from thalweg.curvature.dense import Dense
from thalweg.curvature.density import Density, spectral_density
from thalweg.curvature.diagonal import diagonal
from thalweg.curvature.effective_dimension import effective_dimension
from thalweg.curvature.eigen import Eigenpairs, eigsh, eigsh_near
from thalweg.curvature.estimate import Estimate
from thalweg.curvature.examination import inspect
from thalweg.curvature.findings import Advice
from thalweg.curvature.fisher import EmpiricalFisher, Fisher
from thalweg.curvature.ggn import GGN
from thalweg.curvature.hessian import BlockHessian, Hessian
from thalweg.curvature.index import (
    NegativeCurvature,
    NegativeEigenvalues,
    negative_curvature,
    negative_eigenvalues,
)
from thalweg.curvature.inspection import Inspection
from thalweg.curvature.jacobian import GaussNewton, Jacobian
from thalweg.curvature.journal import read_journal
from thalweg.curvature.kronecker import KroneckerFactors
from thalweg.curvature.logdet import logdet
from thalweg.curvature.monitor import CurvatureMonitor
from thalweg.curvature.noise import NoiseScale, noise_scale
from thalweg.curvature.norms import frobenius
from thalweg.curvature.operator import AbstractOperator, Expression
from thalweg.curvature.self_check import CurvatureWarning, SelfCheck
from thalweg.curvature.trace import trace


__all__ = [
    "GGN",
    "AbstractOperator",
    "Advice",
    "Alignment",
    "BlockHessian",
    "ConditionNumber",
    "CurvatureMonitor",
    "CurvatureWarning",
    "Dense",
    "Density",
    "Eigenpairs",
    "EmpiricalFisher",
    "Estimate",
    "Expression",
    "Fisher",
    "GaussNewton",
    "GradientCovariance",
    "Hessian",
    "How",
    "Inspection",
    "Jacobian",
    "KroneckerFactors",
    "NegativeCurvature",
    "NegativeEigenvalues",
    "NoiseScale",
    "SelfCheck",
    "alignment",
    "condition_number",
    "diagonal",
    "effective_dimension",
    "eigsh",
    "eigsh_near",
    "frobenius",
    "inspect",
    "logdet",
    "negative_curvature",
    "negative_eigenvalues",
    "noise_scale",
    "read_journal",
    "spectral_density",
    "trace",
]
