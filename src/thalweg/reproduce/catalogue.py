"""The experiments there are, in the order in which the book tells them."""

from __future__ import annotations

from thalweg.reproduce import (
    adagrad_stalls,
    adahessian_neuron,
    adam_step_bound,
    autoencoder,
    cg_conjugacy,
    contraction,
    curvature_tour,
    diagonal_quality,
    dinh_rescaling,
    flat_minima,
    fletcher_reeves,
    hessian_free_difference,
    hessian_momentum,
    hessian_power,
    infrequent_features,
    lbfgs_memory,
    linear_path,
    lookahead,
    mode_connectivity,
    momentum_limit,
    newton_one_step,
    newton_saddle,
    polyak_averaging,
    projection_path,
    rank_deficient,
    ravine,
    regularisation,
    rmsprop_hovers,
    rotation,
    saddle,
    skip_connections,
    stable_rate,
    steep_valley,
    whitening,
)
from thalweg.reproduce.claims import Experiment


__all__ = ["experiments"]

MODULES = (
    steep_valley,
    contraction,
    momentum_limit,
    adam_step_bound,
    saddle,
    newton_saddle,
    ravine,
    newton_one_step,
    whitening,
    cg_conjugacy,
    fletcher_reeves,
    lbfgs_memory,
    rank_deficient,
    hessian_free_difference,
    adagrad_stalls,
    rmsprop_hovers,
    rotation,
    lookahead,
    polyak_averaging,
    infrequent_features,
    regularisation,
    stable_rate,
    curvature_tour,
    diagonal_quality,
    hessian_momentum,
    hessian_power,
    adahessian_neuron,
    autoencoder,
    dinh_rescaling,
    projection_path,
    skip_connections,
    linear_path,
    mode_connectivity,
    flat_minima,
)


def experiments() -> dict[str, Experiment]:
    """Every experiment by its name.

    Example:
        >>> experiments()["steep-valley"].title
        'A steep valley: the learning rate, momentum and Adam on condition number 100'
    """
    return {module.EXPERIMENT.name: module.EXPERIMENT for module in MODULES}
