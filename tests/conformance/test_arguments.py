"""What is refused, with a message that names class, argument, value and what is allowed."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from conformance.table import CASES, ROWS, Tether, bad_values
from thalweg import optim
from thalweg.optim.arguments import argument_names


WRONG = [
    (name, option, value)
    for name in ROWS
    for option in ROWS[name].bad_names
    for value in bad_values(name, option)
]
PLAIN = [name for name, row in ROWS.items() if not row.wraps]


def refusal(cls, option):
    return rf"^{cls.__name__}\({option}=.+\): {option} must be .+\.$"


def one():
    return nn.Parameter(torch.ones(2))


@pytest.mark.parametrize(("name", "option", "value"), WRONG, ids=lambda v: str(v)[:20])
class TestRefusesBadValues:
    def test_in_the_constructor(self, name, option, value):
        row = ROWS[name]
        with pytest.raises(ValueError, match=refusal(row.cls, option)):
            row.build([one()], **{option: value})

    def test_in_a_group(self, name, option, value):
        row = ROWS[name]
        with pytest.raises(ValueError, match=refusal(row.cls, option)):
            row.build([{"params": [one()]}, {"params": [one()], option: value}])

    def test_in_a_group_added_later_before_anything_changed(self, name, option, value):
        row = ROWS[name]
        optimizer = row.build([one()])
        with pytest.raises(ValueError, match=refusal(row.cls, option)):
            optimizer.add_param_group({"params": [one()], option: value})
        assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", ROWS)
class TestRefusesWhatItDoesNotKnow:
    def test_every_hyperparameter_lies_in_a_domain(self, name):
        row = ROWS[name]
        optimizer = row.build([one()])
        known = set(row.bad_names) | (set() if not row.wraps else set(optimizer.inner.defaults))
        assert set(optimizer.defaults) - {"differentiable"} <= known

    def test_a_misspelt_keyword(self, name):
        cls = ROWS[name].cls
        option = argument_names(cls)[-1]
        with pytest.raises(TypeError, match=rf"{cls.__name__}\(.*Did you mean '{option}'\?"):
            cls([one()], **{option[:-1]: 0.5})

    def test_a_keyword_like_none(self, name):
        cls = ROWS[name].cls
        with pytest.raises(TypeError, match=rf"{cls.__name__}\(zzz=...\): unknown .* Known: "):
            cls([one()], zzz=1)

    def test_a_misspelt_key_of_a_group(self, name):
        row = ROWS[name]
        if not row.bad_names:
            pytest.skip("it has no hyper-parameters of its own")
        option = max(row.bad_names, key=len)
        wrong = option[:-2] + option[-1]
        message = rf"{row.cls.__name__}\({wrong}=...\): .* Did you mean '{option}'\?"
        group = {"params": [one()], wrong: 0.5}
        with pytest.raises(TypeError, match=message):
            row.build([group])
        optimizer = row.build([one()])
        with pytest.raises(TypeError, match=message):
            optimizer.add_param_group(group)
        assert len(optimizer.param_groups) == 1

    def test_a_parameter_twice(self, name):
        row, p = ROWS[name], one()
        optimizer = row.build([p])
        with pytest.raises(ValueError, match="more than one parameter group"):
            optimizer.add_param_group({"params": [p]})

    def test_a_group_that_is_no_dict(self, name):
        optimizer = ROWS[name].build([one()])
        with pytest.raises(TypeError, match="dict"):
            optimizer.add_param_group([one()])


@pytest.mark.parametrize("name", PLAIN)
def test_a_model_is_not_its_parameters(name):
    cls = ROWS[name].cls
    message = re.escape(f"{cls.__name__}(params=Linear): pass model.parameters().")
    with pytest.raises(TypeError, match=message):
        cls(nn.Linear(2, 1))


@pytest.mark.parametrize("name", PLAIN)
def test_no_parameter_at_all(name):
    with pytest.raises(ValueError, match="empty parameter list"):
        ROWS[name].cls([])


def test_a_refused_constructor_leaves_the_inner_optimizer_alone():
    inner = optim.SGD([one()], lr=0.1)
    keys = set(inner.param_groups[0])
    with pytest.raises(ValueError, match="every"):
        optim.WeightAveraging(inner, every=0)
    assert set(inner.param_groups[0]) == keys


@pytest.mark.parametrize("inner", [None, "sgd", nn.Linear(1, 1)])
def test_a_wrapper_goes_around_an_optimizer(inner):
    with pytest.raises(TypeError, match=r"WeightAveraging\(inner=...\): a torch.optim.Optimizer"):
        optim.WeightAveraging(inner)


def test_a_wrapper_refuses_itself_twice():
    averaged = optim.WeightAveraging(optim.SGD([one()]))
    with pytest.raises(
        ValueError, match=r"^WeightAveraging\(inner='WeightAveraging'\): inner must"
    ):
        optim.WeightAveraging(averaged)
    assert isinstance(Tether(averaged), optim.AbstractWrapper)


def test_nesterovs_form_needs_momentum_without_dampening():
    for options in ({}, {"momentum": 0.9, "dampening": 0.1}):
        with pytest.raises(ValueError, match=r"SGD\(nesterov=True\): nesterov must be False, or"):
            optim.SGD([one()], nesterov=True, **options)


@pytest.mark.parametrize("name", CASES)
def test_named_parameters_are_kept_by_name(name):
    row = CASES[name]
    model = nn.Linear(2, 1)
    optimizer = row.build(model.named_parameters(), **row.settings)
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
