"""Forms of batches, and every clear message."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from thalweg import Objective


X, Y = torch.randn(4, 3), torch.randn(4, 2)


class Speaker(nn.Module):
    """A model that takes and gives as those of Hugging Face do."""

    def __init__(self, form):
        super().__init__()
        self.layer, self.form = nn.Linear(3, 2), form

    def forward(self, inputs, mask=None, labels=None):
        logits = self.layer(inputs if mask is None else inputs * mask)
        loss = None if labels is None else F.mse_loss(logits, labels)
        if self.form == "tensor":
            return logits if loss is None else loss
        if self.form == "tuple":
            return (logits,) if loss is None else (loss, logits)
        if self.form == "dict":
            return {"loss": loss, "logits": logits}
        return SimpleNamespace(loss=loss, logits=logits)


FORMS = ["tensor", "tuple", "dict", "object"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", [F.mse_loss, None])
def test_dict_batches(form, loss):
    model = Speaker(form)
    mask = torch.tensor([1.0, 0.0, 1.0])
    batch = {"inputs": X, "mask": mask, "labels": Y}
    objective = Objective(model, loss)
    expected = F.mse_loss(model.layer(X * mask), Y)
    torch.testing.assert_close(objective.closure(batch).value(), expected.detach())
    risk = objective.over(
        [
            {k: v if k == "mask" else v[:3] for k, v in batch.items()},
            {k: v if k == "mask" else v[3:] for k, v in batch.items()},
        ]
    )
    torch.testing.assert_close(risk.value(), expected.detach())


def test_dict_batches_with_another_key():
    objective = Objective(Speaker("object"), F.mse_loss, labels="y")
    value = objective.closure({"inputs": X, "y": Y}).value()
    torch.testing.assert_close(
        value, Objective(objective.model.layer, F.mse_loss).closure(X, Y).value()
    )


def test_missing_labels_are_named():
    closure = Objective(Speaker("object"), F.mse_loss).closure({"inputs": X, "label": Y})
    with pytest.raises(KeyError, match=r"labels='labels'.*no such key; it has 'inputs', 'label'"):
        closure.value()


def test_pairs_in_every_form_and_inputs_of_many_parts():
    model = nn.Linear(3, 2)
    objective = Objective(model, F.mse_loss)
    expected = objective.closure(X, Y).value()
    assert objective.closure((X, Y)).value() == expected
    assert objective.closure([X, Y]).value() == expected
    pair = Objective(nn.Bilinear(3, 3, 2), F.mse_loss)
    assert pair.closure((X, X), Y).value() == pair.closure([[X, X], Y]).value()


def test_a_forward_of_the_callers_own():
    model = nn.Linear(3, 2)
    plain = Objective(model, F.mse_loss).closure(X, Y)
    outputs = Objective(model, F.mse_loss, forward=lambda m, b: (m(b["a"]), b["b"]))
    assert outputs.closure({"a": X, "b": Y}).value() == plain.value()
    loss = Objective(model, None, forward=lambda m, b: F.mse_loss(m(b[0]), b[1]))
    closure = loss.closure(X, Y)
    assert closure.value() == plain.value()
    assert closure.loss_fn is None
    with pytest.raises(TypeError, match=r"^Objective\(loss_fn=None\): .* Pass a loss_fn"):
        closure.outputs()


def test_theta_reaches_a_forward_of_the_callers_own():
    model = nn.Linear(3, 2)
    closure = Objective(model, F.mse_loss, forward=lambda m, b: (m(b[0]), b[1])).closure(X, Y)
    assert closure.value(closure.snapshot().zero_()) == F.mse_loss(torch.zeros(4, 2), Y)


# ---- messages -----------------------------------------------------------------------------------
def test_a_model_is_a_module():
    with pytest.raises(
        TypeError, match=r"^Objective\(model=\.\.\.\): a torch\.nn\.Module is needed"
    ):
        Objective(lambda x: x, F.mse_loss)


def test_a_loss_is_callable():
    with pytest.raises(TypeError, match=r"^Objective\(loss_fn=\.\.\.\): a callable .* 'mse'"):
        Objective(nn.Linear(3, 2), "mse")
    with pytest.raises(TypeError, match=r"^Objective\.of\(fn=\.\.\.\): a callable is needed"):
        Objective.of(3)


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Linear(2, 2).requires_grad_(False)])
def test_a_model_has_something_to_train(model):
    message = r"^Objective\(model='\w+'\): model must be a module with at least one parameter"
    with pytest.raises(ValueError, match=message):
        Objective(model, F.mse_loss)


@pytest.mark.parametrize("where", ["__call__", "value", "value_and_grad"])
class TestWrongLosses:
    def ask(self, where, loss, model=None, forward=None):
        closure = Objective(model or nn.Linear(3, 2), loss, forward=forward).closure(X, Y)
        getattr(closure, where)()

    def test_not_a_scalar(self, where):
        message = (
            r"^Objective\(loss_fn=\.\.\.\): the loss must be a scalar, got shape \(4, 2\)\. Take"
        )
        with pytest.raises(ValueError, match=message):
            self.ask(where, lambda z, y: (z - y) ** 2)

    def test_not_a_tensor(self, where):
        with pytest.raises(
            TypeError, match=r"\(loss_fn=\.\.\.\): the loss must be a tensor, got 1\.0"
        ):
            self.ask(where, lambda *_: 1.0)

    def test_of_the_forward_function(self, where):
        with pytest.raises(
            ValueError, match=r"^Objective\(forward=\.\.\.\): the loss must be a scalar"
        ):
            self.ask(where, None, forward=lambda m, b: m(b[0]))

    def test_not_of_the_parameters(self, where):
        if where == "value":
            return  # a loss may be looked at
        with pytest.raises(
            ValueError, match=r"^Objective: the loss does not depend on any trainable"
        ):
            self.ask(where, lambda z, y: F.mse_loss(z.detach(), y))

    def test_one_element_is_a_scalar(self, where):
        self.ask(where, lambda z, y: (z - y).pow(2).mean().reshape(1, 1))

    def test_of_a_function(self, where):
        x = torch.ones(2, requires_grad=True)
        closure = Objective.of(lambda x: x * 2).closure(x)
        with pytest.raises(
            ValueError, match=r"^Objective\.of\(fn=\.\.\.\): the loss must be a scalar"
        ):
            getattr(closure, where)()


def test_no_batch():
    with pytest.raises(
        ValueError, match=r"^Objective\.closure\(batch=\(\)\): batch must be x, y or"
    ):
        Objective(nn.Linear(3, 2), F.mse_loss).closure()


def test_an_empty_loader():
    with pytest.raises(ValueError, match="the loader gave no batch"):
        Objective(nn.Linear(3, 2), F.mse_loss).over([])


@pytest.mark.parametrize("batch", [X, 3, (X, Y, Y), "xy"], ids=["tensor", "int", "triple", "text"])
def test_an_unknown_form_of_batch(batch):
    closure = Objective(nn.Linear(3, 2), F.mse_loss).closure(batch)
    with pytest.raises(
        TypeError, match=r"a batch must be \(x, y\) or a dict, got \w+; for any other"
    ):
        closure.value()


def test_rows_that_cannot_be_counted():
    objective = Objective(nn.Linear(3, 2), None, forward=lambda m, b: m(b.x).mean())
    batch = SimpleNamespace(x=X)
    with pytest.raises(
        TypeError, match=r"^Objective\.over: .* pass Objective\(\.\.\., count=batch"
    ):
        objective.over([batch]).value()
    counted = Objective(
        objective.model, None, forward=lambda m, b: m(b.x).mean(), count=lambda _: 4
    )
    assert counted.over([batch, batch]).value() == objective_value(objective.model)


def objective_value(model):
    return model(X).mean().detach()


@pytest.mark.parametrize(
    "x",
    [torch.ones(2), torch.ones(2, requires_grad=True) * 2, 3.0],
    ids=["no grad", "no leaf", "no tensor"],
)
def test_a_function_is_bound_to_a_live_leaf(x):
    with pytest.raises(
        ValueError, match=r"^Objective\.of\(x=.*\): x must be a leaf tensor that req"
    ):
        Objective.of(lambda x: x.sum()).closure(x)


@pytest.mark.parametrize("n", [5, 9])
def test_theta_of_another_size(n):
    closure = Objective(nn.Linear(3, 2), F.mse_loss).closure(X, Y)
    with pytest.raises(
        ValueError, match=r"^Vector\.like\(flat=\(\d,\)\): flat must be a flat tensor"
    ):
        closure.value(torch.zeros(n))
