"""The worked example of CONTRIBUTING.md is a whole method, and it works."""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch

from thalweg.optim.first_order import AbstractFirstOrder


@pytest.fixture
def example() -> ModuleType:
    text = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    module = ModuleType("signum")
    exec(source, module.__dict__)
    return module


def test_its_doctest_passes(example):
    results = doctest.testmod(example)
    assert results.attempted > 0
    assert results.failed == 0


def test_it_fills_nothing_but_its_rule(example):
    assert issubclass(example.Signum, AbstractFirstOrder)
    assert not {"evaluate", "descend", "advance"} & set(vars(example.Signum))


def test_it_needs_one_rule_for_one_tensor_and_for_many(example):
    def after_steps(foreach: bool) -> list[torch.Tensor]:
        params = [torch.nn.Parameter(torch.ones(n)) for n in (2, 3)]
        optimizer = example.Signum(params, lr=0.1, foreach=foreach)
        for step in range(3):
            for p in params:
                p.grad = torch.sin(torch.arange(p.numel()) + 2.0 * step)
            optimizer.step()
        return [p.detach() for p in params]

    for one, many in zip(after_steps(False), after_steps(True), strict=True):
        assert torch.equal(one, many)
