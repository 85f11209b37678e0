"""Under torch's own machinery: checkpoints, hooks, copies. See test_torch_suite.py."""

# ruff: noqa: PT009  (the assertions of torch's TestCase compare tensors, nested in anything)

from __future__ import annotations

import io
import warnings
from copy import deepcopy

import pytest
import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from conformance.torch_rows import EVERY, Line, all_inputs, goes_down


with warnings.catch_warnings():  # torch's test machinery imports what it deprecates
    warnings.simplefilter("ignore")
    from torch.testing._internal.common_device_type import instantiate_device_type_tests
    from torch.testing._internal.common_optimizers import optims
    from torch.testing._internal.common_utils import TestCase

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*lr_scheduler.step.*:UserWarning", "ignore:.*epoch parameter.*:UserWarning"
)


class TestStateConformance(TestCase):
    def _resumed(self, optim_info, device, dtype, options, rename=lambda params: params):
        """Walk, save, load into a copy, walk both: (their parameters)."""
        line = Line(device, dtype)
        options = {**options, "maximize": False} if options.get("maximize") else options
        optimizer = optim_info.optim_cls(rename(line.params), **options)
        for _ in range(3):
            optimizer.step(line.closure)
        twin = deepcopy(line)
        second = optim_info.optim_cls(rename(twin.params), **options)
        second.load_state_dict(deepcopy(optimizer.state_dict()))
        for _ in range(3):
            optimizer.step(line.closure)
            second.step(twin.closure)
        self.assertEqual(line.params, twin.params)
        return optimizer, second

    @optims(EVERY)
    def test_state_dict_deterministic(self, device, dtype, optim_info):
        def named(params):
            return list(zip(("weight", "bias"), params, strict=True))

        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            for rename in (lambda params: params, named):
                first, second = self._resumed(optim_info, device, dtype, options, rename)
                self.assertEqual(first.state_dict()["state"], second.state_dict()["state"])

    @optims(EVERY)
    def test_can_load_older_state_dict(self, device, dtype, optim_info):
        # Checkpoints of before a flag existed lack it.
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            if options.get("maximize"):
                continue
            line = Line(device, dtype)
            optimizer = optim_info.optim_cls(line.params, **options)
            optimizer.step(line.closure)
            old = deepcopy(optimizer.state_dict())
            for flag in ("foreach", "maximize", "l1", "decoupled_weight_decay", "capturable"):
                if flag != "decoupled_weight_decay" or not old["param_groups"][0].get(flag):
                    old["param_groups"][0].pop(flag, None)
            optimizer.load_state_dict(old)
            optimizer.step(line.closure)
            self.assertTrue(goes_down(optimizer, line, options))

    @optims(EVERY)
    def test_can_load_from_to_named_state_dict(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype):
            for named_first in (True, False):
                line = Line(device, dtype)
                names = list(zip(("weight", "bias"), line.params, strict=True))
                first, second = (names, line.params) if named_first else (line.params, names)
                source = optim_info.optim_cls(first, **options)
                source.step(line.closure)
                target = optim_info.optim_cls(second, **options)
                target.load_state_dict(source.state_dict())
                target.step(line.closure)
                self.assertEqual(target.param_groups[0]["param_names"], ["weight", "bias"])

    @optims(EVERY)
    def test_save_load_equality_with_weights_only(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            line = Line(device, dtype)
            optimizer = optim_info.optim_cls(line.params, **options)
            for _ in range(3):
                optimizer.step(line.closure)
            saved = optimizer.state_dict()
            buffer = io.BytesIO()
            torch.save(saved, buffer)
            buffer.seek(0)
            self.assertEqual(torch.load(buffer, weights_only=True), saved)

    @optims(EVERY)
    def test_load_nontensor_step(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            line = Line(device, dtype)
            optimizer = optim_info.optim_cls(line.params, **options)
            for _ in range(3):
                optimizer.step(line.closure)
            state = deepcopy(optimizer.state_dict())
            for slots in state["state"].values():
                if "step" in slots:
                    slots["step"] = float(slots["step"])
            optimizer.load_state_dict(state)
            optimizer.step(line.closure)
            for slots in optimizer.state.values():
                self.assertEqual(float(slots.get("step", 4.0)), 4.0)

    @optims(EVERY)
    def test_state_dict_hooks(self, device, dtype, optim_info):
        line = Line(device, dtype)
        optimizer = optim_info.optim_cls(line.params, lr=0.01)

        def rate_doubled(_, state):
            state = deepcopy(state)
            state["param_groups"][0]["lr"] *= 2
            return state

        optimizer.register_state_dict_post_hook(rate_doubled)
        self.assertEqual(optimizer.state_dict()["param_groups"][0]["lr"], 0.02)
        other = optim_info.optim_cls(line.params, lr=0.5)
        handle = other.register_load_state_dict_pre_hook(rate_doubled)
        other.load_state_dict(optimizer.state_dict())
        self.assertEqual(other.param_groups[0]["lr"], 0.04)
        handle.remove()
        other.load_state_dict(optimizer.state_dict())
        self.assertEqual(other.param_groups[0]["lr"], 0.02)

    @optims(EVERY)
    def test_step_hooks(self, device, dtype, optim_info):
        line = Line(device, dtype)
        optimizer = optim_info.optim_cls(line.params, lr=0.01)
        seen = []

        def note(what):
            return lambda *_: seen.append(what)

        def owner(stepped, *_):
            seen.append(type(stepped))

        mine = [
            optimizer.register_step_pre_hook(note("pre")),
            optimizer.register_step_post_hook(note("post")),
        ]
        optimizer.step(line.closure)
        self.assertEqual(seen, ["pre", "post"])
        everyones = [
            register_optimizer_step_pre_hook(owner),
            register_optimizer_step_post_hook(owner),
        ]
        seen.clear()
        optimizer.step(line.closure)
        for handle in (*mine, *everyones):
            handle.remove()
        self.assertEqual(seen.count(type(optimizer)), 2)
        seen.clear()
        optimizer.step(line.closure)
        self.assertEqual(seen, [])

    @optims(EVERY)
    def test_deepcopy_copies_all_public_attrs(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            line = Line(device, dtype)
            optimizer = optim_info.optim_cls(line.params, **options)
            optimizer.step(line.closure)

            def public(o):
                return {name for name in vars(o) if not name.startswith("_")}

            twin = deepcopy(optimizer)
            self.assertEqual(public(twin), public(optimizer))
            self.assertEqual(twin.state_dict()["state"], optimizer.state_dict()["state"])

    @optims(EVERY)
    def test_non_empty_state(self, device, dtype, optim_info):
        for options in all_inputs(optim_info, device, dtype, foreach=(False, True)):
            stateless = optim_info.name in {"SGD", "asam"} and not options.get("momentum")
            line = Line(device, dtype)
            optimizer = optim_info.optim_cls(line.params, **options)
            optimizer.step(line.closure)
            self.assertEqual(all(optimizer.state[p] for p in line.params), not stateless)


instantiate_device_type_tests(TestStateConformance, globals(), only_for=("cpu",))
