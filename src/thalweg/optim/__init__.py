"""Optimizers: drop-in ``torch.optim.Optimizer`` classes on one lifecycle.

Every method fills one or two of three seams, ``step = advance . descend . evaluate``; its rule is
written once and reads like the paper's equation. :func:`catalogue` lists them all with what they
need, keep and cost; :func:`create` makes one by name.
"""

from thalweg.optim.adagrad import Adagrad
from thalweg.optim.adahessian import AdaHessian
from thalweg.optim.adam import Adam
from thalweg.optim.adamw import AdamW
from thalweg.optim.adan import Adan
from thalweg.optim.averaging import WeightAveraging
from thalweg.optim.base import AbstractOptimizer
from thalweg.optim.bfgs import BFGS
from thalweg.optim.catalogue import Entry, catalogue, create, resolve
from thalweg.optim.conjugate_gradient import ConjugateGradient
from thalweg.optim.delta_bar_delta import DeltaBarDelta
from thalweg.optim.ekfac import EKFAC
from thalweg.optim.first_order import AbstractFirstOrder
from thalweg.optim.gauss_newton import GaussNewton
from thalweg.optim.hessian_free import HessianFree, HessianFreeOptions
from thalweg.optim.kfac import KFAC
from thalweg.optim.kfac_factors import KFACOptions
from thalweg.optim.kronecker import AbstractKronecker
from thalweg.optim.lbfgs import LBFGS
from thalweg.optim.levenberg_marquardt import LevenbergMarquardt
from thalweg.optim.lookahead import Lookahead
from thalweg.optim.metadata import Common, Cost, CurvatureCommon, Needs, Range, Reference, Slot
from thalweg.optim.muon import Muon, muon_groups
from thalweg.optim.natural_gradient import NaturalGradient, NaturalOptions
from thalweg.optim.nesterov import Nesterov
from thalweg.optim.newton import Newton
from thalweg.optim.newton_cg import NewtonCG
from thalweg.optim.newton_lanczos import NewtonLanczos
from thalweg.optim.nonlinear_cg import NonlinearCG
from thalweg.optim.projected_gradient import ProjectedGradient
from thalweg.optim.rmsprop import RMSprop
from thalweg.optim.rprop import Rprop
from thalweg.optim.saddle_free_newton import SaddleFreeNewton
from thalweg.optim.sam import SAM
from thalweg.optim.seams import Path, Piece, Point, Ray, StepInfo
from thalweg.optim.sgd import SGD
from thalweg.optim.shampoo import Shampoo
from thalweg.optim.soap import SOAP
from thalweg.optim.sophia import Sophia
from thalweg.optim.spectral_projected_gradient import SpectralProjectedGradient
from thalweg.optim.structured import AbstractStructured
from thalweg.optim.trust_region_newton import TrustRegionNewton
from thalweg.optim.trust_region_newton_cg import TrustRegionNewtonCG
from thalweg.optim.wrapper import AbstractWrapper


__all__ = [
    "BFGS",
    "EKFAC",
    "KFAC",
    "LBFGS",
    "SAM",
    "SGD",
    "SOAP",
    "AbstractFirstOrder",
    "AbstractKronecker",
    "AbstractOptimizer",
    "AbstractStructured",
    "AbstractWrapper",
    "AdaHessian",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adan",
    "Common",
    "ConjugateGradient",
    "Cost",
    "CurvatureCommon",
    "DeltaBarDelta",
    "Entry",
    "GaussNewton",
    "HessianFree",
    "HessianFreeOptions",
    "KFACOptions",
    "LevenbergMarquardt",
    "Lookahead",
    "Muon",
    "NaturalGradient",
    "NaturalOptions",
    "Needs",
    "Nesterov",
    "Newton",
    "NewtonCG",
    "NewtonLanczos",
    "NonlinearCG",
    "Path",
    "Piece",
    "Point",
    "ProjectedGradient",
    "RMSprop",
    "Range",
    "Ray",
    "Reference",
    "Rprop",
    "SaddleFreeNewton",
    "Shampoo",
    "Slot",
    "Sophia",
    "SpectralProjectedGradient",
    "StepInfo",
    "TrustRegionNewton",
    "TrustRegionNewtonCG",
    "WeightAveraging",
    "catalogue",
    "create",
    "muon_groups",
    "resolve",
]
