"""Our optimizers under torch's own machinery for testing optimizers.

torch ships ``OptimizerInfo``, the ``@optims`` decorator and its lists of error inputs, but not the
tests that use them (``TestOptimRenewed``). The bodies here follow the behaviour that those tests
ask for, under their names, so that a failure can be looked up. The functions that describe inputs
(``optim_inputs_func_*``) are torch's.

Left out, with the reason:

* ``rosenbrock_sparse``: sparse gradients are refused, which is tested in ``test_parameters.py``.
* ``fused_*``, ``capturable`` and ``differentiable`` inputs: there are no such modes; torch's
  checkpoints that name them load, and the flags are ignored.
* ``mixed_device_dtype``, ``peak_memory_foreach``, ``foreach_large_tensor``,
  ``set_default_dtype_works_with_foreach``, ``state_dict_with_cuda_params``,
  ``cpu_load_state_dict`` on another device, ``defaults_changed_to_foreach``,
  ``fused_does_not_step_if_foundinf``: they need CUDA.
* ``second_order_optims_return_consistent_types``: it is about torch's LBFGS by its arguments.
* error inputs about ``foreach`` with a tensor rate and about betas of mixed type: both work here.
"""

# ruff: noqa: PT009  (the assertions of torch's TestCase compare tensors, nested in anything)

from __future__ import annotations

import warnings
from copy import deepcopy

import pytest
import torch
from torch import nn

from conformance.torch_rows import EVERY, OURS, Line, all_inputs, goes_down
from thalweg.optim import Shampoo


with warnings.catch_warnings():  # torch's test machinery imports what it deprecates
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_device_type import instantiate_device_type_tests
    from torch.testing._internal.common_optimizers import optims
    from torch.testing._internal.common_utils import TestCase

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*lr_scheduler.step.*:UserWarning", "ignore:.*epoch parameter.*:UserWarning"
)


class TestConformance(TestCase):
    @optims(EVERY)
    def test_errors(self, device, dtype, optim_info):
        for case in optim_info.optim_error_inputs_func(device=device, dtype=dtype):
            given = case.optimizer_error_input
            params = given.params
            if params is None:
                params = [nn.Parameter(torch.zeros(2, device=device, dtype=dtype))]
            catch = (
                self.assertWarnsRegex
                if issubclass(case.error_type, Warning)
                else self.assertRaisesRegex
            )
            with catch(case.error_type, case.error_regex):
                optim_info.optim_cls(params, **given.kwargs)

    @optims(EVERY)
    def test_forloop_goes_right_direction(self, device, dtype, optim_info):
        for contiguous in (True, False):
            for schedules in ((), *optim_info.scheduler_inputs):
                for options in all_inputs(optim_info, device, dtype):
                    line = Line(device, dtype, contiguous)
                    optimizer = optim_info.optim_cls(line.params, **options)
                    schedulers = [make(optimizer) for make in schedules]
                    self.assertTrue(goes_down(optimizer, line, options, schedulers), options)

    @optims(OURS)
    def test_foreach_goes_right_direction(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype, foreach=(True,)):
            line = Line(device, dtype)
            optimizer = optim_info.optim_cls(line.params, **options)
            self.assertTrue(goes_down(optimizer, line, options), options)

    @optims(EVERY)
    def test_param_groups_with_lrscheduler_go_right_direction(self, device, dtype, optim_info):
        for schedules in optim_info.scheduler_inputs:
            for options in all_inputs(optim_info, device, dtype):
                line = Line(device, dtype)
                groups = [{"params": [line.weight]}, {"params": [line.bias], "lr": 0.01}]
                optimizer = optim_info.optim_cls(groups, **options)
                schedulers = [make(optimizer) for make in schedules]
                self.assertTrue(goes_down(optimizer, line, options, schedulers), options)

    @optims(EVERY, dtypes=[torch.float64])
    def test_tensor_lr(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            rate = float(options.pop("lr", 0.01))
            ends = []
            for lr in (rate, *(torch.full(s, rate, dtype=dtype) for s in ((), (1,), (1, 1)))):
                line = Line(device, dtype)
                optimizer = optim_info.optim_cls(line.params, **{**options, "lr": lr})
                for _ in range(5):
                    optimizer.step(line.closure)
                self.assertEqual(float(lr), rate)
                ends.append([p.detach().clone() for p in line.params])
            for end in ends[1:]:
                self.assertEqual(end, ends[0])

    @optims(EVERY)
    def test_param_groups_lr(self, device, dtype, optim_info):
        # A rate of zero in a group holds it still.
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            line = Line(device, dtype)
            groups = [{"params": [line.weight]}, {"params": [line.bias], "lr": 0.0}]
            optimizer = optim_info.optim_cls(groups, **{**options, "lr": 0.01})
            weight, bias = line.weight.detach().clone(), line.bias.detach().clone()
            for _ in range(3):
                optimizer.step(line.closure)
            self.assertEqual(line.bias, bias)
            self.assertNotEqual(line.weight, weight)

    @optims(EVERY, dtypes=[torch.float64])
    def test_param_groups_weight_decay(self, device, dtype, optim_info):
        if optim_info.name == "Rprop":
            self.skipTest("only the gradient's sign counts, which this decay does not turn")
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            ends = []
            for decay in (0.0, 0.5):
                line = Line(device, dtype)
                groups = [
                    {"params": [line.weight], "weight_decay": decay},
                    {"params": [line.bias], "weight_decay": 0.0},
                ]
                optimizer = optim_info.optim_cls(groups, **options)
                optimizer.step(line.closure)
                ends.append((line.weight.detach(), line.bias.detach()))
            self.assertEqual(ends[0][1], ends[1][1])
            self.assertFalse(torch.equal(ends[0][0], ends[1][0]))

    @optims(EVERY)
    def test_step_is_noop_when_params_have_no_grad(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            params = [torch.randn(2, 3, device=device, dtype=dtype) for _ in range(2)]
            before = [p.clone() for p in params]
            optimizer = optim_info.optim_cls(params, **options)
            optimizer.step(lambda: torch.tensor(1.0))
            self.assertEqual(params, before)

    @optims(EVERY)
    def test_step_is_noop_for_zero_grads(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            param = torch.randn(3, 1, device=device, dtype=dtype, requires_grad=True)
            before = param.detach().clone()
            for name in ("weight_decay", "l1"):
                options.pop(name, None)
            options["weight_decay"] = 0.0
            optimizer = optim_info.optim_cls([param], **options)
            param.grad = torch.zeros_like(param)
            optimizer.step(lambda: torch.tensor(1.0))
            self.assertEqual(param, before)

    @optims(EVERY)
    def test_optimizer_can_be_printed(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype):
            param = nn.Parameter(torch.randn(2, 3, device=device, dtype=dtype))
            shown = repr(optim_info.optim_cls([param], **options))
            self.assertIn("Parameter Group 0", shown)
            self.assertIn("weight_decay: ", shown)

    @optims(OURS, dtypes=[torch.float64])
    def test_foreach_matches_forloop(self, device, dtype, optim_info):
        # Seven steps; a layer is frozen and thawed on the way; the last parameter is 0-dim.
        for options in all_inputs(optim_info, device, dtype):
            kept = []
            for foreach in (False, True):
                torch.manual_seed(0)
                model = nn.Sequential(nn.Linear(4, 3), nn.Sigmoid(), nn.Linear(3, 1), nn.Sigmoid())
                model = model.to(device=device, dtype=dtype)
                scale = nn.Parameter(torch.ones((), device=device, dtype=dtype))
                params = [*model.parameters(), scale]
                optimizer = optim_info.optim_cls(params, **{**options, "foreach": foreach})
                x = torch.linspace(-1, 1, 8, device=device, dtype=dtype).reshape(2, 4)
                for t in range(7):
                    model[2].requires_grad_(t not in (3, 4))

                    def closure(model=model, scale=scale, optimizer=optimizer, x=x):
                        optimizer.zero_grad()
                        loss = (scale * model(x)).sum()
                        loss.backward()
                        return loss

                    optimizer.step(closure)
                kept.append(params)
            # Shampoo's products and roots of many tiles at once are of another order.
            grouped = optim_info.optim_cls is Shampoo
            rtol, atol = (1e-12, 1e-13) if grouped else (1e-15, 1e-15)
            self.assertEqual(kept[0], kept[1], rtol=rtol, atol=atol)

    @optims(EVERY, dtypes=[torch.complex64, torch.complex128])
    def test_complex(self, device, dtype, optim_info):
        for shape in ((), (3,), (2, 3)):
            for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
                torch.manual_seed(0)
                z = nn.Parameter(torch.randn(shape, device=device, dtype=dtype))
                pair = nn.Parameter(torch.view_as_real(z.detach()).clone())
                first = optim_info.optim_cls([z], **deepcopy(options))
                second = optim_info.optim_cls([pair], **deepcopy(options))
                for _ in range(3):
                    z.grad = torch.randn_like(z)
                    pair.grad = torch.view_as_real(z.grad).clone()
                    first.step(lambda: torch.tensor(1.0))
                    second.step(lambda: torch.tensor(1.0))
                self.assertEqual(torch.view_as_real(z.detach()), pair.detach())


instantiate_device_type_tests(TestConformance, globals(), only_for=("cpu",))
