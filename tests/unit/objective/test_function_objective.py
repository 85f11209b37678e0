"""A plain function of one tensor is an objective too."""

from __future__ import annotations

import pytest
import torch

from thalweg import Objective, Vector


def test_a_function_of_one_tensor():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    objective = Objective.of(lambda x: (x**3).sum())
    closure = objective.closure(x)
    assert closure().item() == 9.0
    assert x.grad.tolist() == [3.0, 12.0]
    assert closure.value(torch.tensor([0.0, 1.0])).item() == 1.0
    value, gradient = closure.value_and_grad(Vector([torch.tensor([2.0, 0.0])]))
    assert (value.item(), gradient[0].tolist()) == (8.0, [12.0, 0.0])
    assert objective.ledger.forward == 3
    with pytest.raises(TypeError, match="a plain function has a value but no outputs"):
        closure.outputs()


def test_a_matrix_argument_also_as_a_flat_vector():
    x = torch.ones(2, 3, requires_grad=True)
    closure = Objective.of(lambda x: (x.sum(1) ** 2).sum()).closure(x)
    assert closure.value(torch.ones(6)) == closure.value() == 18


def test_a_constant_function_has_gradient_zero():
    x = torch.ones(2, requires_grad=True)
    closure = Objective.of(lambda _: torch.tensor(3.0)).closure(x)
    assert closure().item() == 3.0
    assert x.grad.tolist() == [0.0, 0.0]
    assert closure.value_and_grad()[1][0].tolist() == [0.0, 0.0]


def test_a_function_that_draws_is_one_function():
    x = torch.ones(2, requires_grad=True)
    closure = Objective.of(lambda x: (x * torch.rand(2)).sum()).closure(x)
    assert closure() == closure.value() == closure.value_and_grad()[0]
