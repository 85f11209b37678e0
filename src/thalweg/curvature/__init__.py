"""Curvature: linear operators known by their products, and what can be estimated from them."""

from thalweg.curvature.batches import How
from thalweg.curvature.covariance import GradientCovariance
from thalweg.curvature.dense import Dense
from thalweg.curvature.fisher import EmpiricalFisher, Fisher
from thalweg.curvature.ggn import GGN
from thalweg.curvature.hessian import BlockHessian, Hessian
from thalweg.curvature.jacobian import GaussNewton, Jacobian
from thalweg.curvature.operator import AbstractOperator, Expression
from thalweg.curvature.self_check import CurvatureWarning, SelfCheck


__all__ = [
    "GGN",
    "AbstractOperator",
    "BlockHessian",
    "CurvatureWarning",
    "Dense",
    "EmpiricalFisher",
    "Expression",
    "Fisher",
    "GaussNewton",
    "GradientCovariance",
    "Hessian",
    "How",
    "Jacobian",
    "SelfCheck",
]
