"""The test case that every linear operator without a decomposition inherits."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators import LinearOperator

from .operator_case import TIGHT, random

NULL, CONDITION = 1e-12, 300.0


def matrix_of(H: LinearOperator) -> Tensor:
    """The (m, n) matrix, column by column from ``H(x)``."""
    impulses = torch.eye(H.n, dtype=torch.float64).reshape(-1, *H.in_shape)
    return H(impulses).flatten(1).T


class LinearCase:
    """Subclass it, list small instances in ``instances``, and have every check run on each.

    Their singular values must be zero or no smaller than the largest over ``CONDITION``: what
    conjugate gradients can resolve. ``name`` is the task they must report.
    """

    name = ""

    @staticmethod
    def instances() -> Iterator[LinearOperator]:
        raise NotImplementedError

    def test_adjoint_identity(self, H: LinearOperator) -> None:
        x, y = random(3, *H.in_shape), random(3, *H.out_shape, seed=1)
        left = (H(x) * y).flatten(1).sum(1)
        torch.testing.assert_close(left, (x * H.adjoint(y)).flatten(1).sum(1), **TIGHT)

    def test_adjoint_is_the_transpose(self, H: LinearOperator) -> None:
        impulses = torch.eye(H.m, dtype=torch.float64).reshape(-1, *H.out_shape)
        torch.testing.assert_close(H.adjoint(impulses).flatten(1), matrix_of(H), **TIGHT)

    def test_linearity(self, H: LinearOperator) -> None:
        a, b = random(2, *H.in_shape), random(2, *H.in_shape, seed=1)
        torch.testing.assert_close(H(2 * a - 3 * b), 2 * H(a) - 3 * H(b), **TIGHT)
        assert not bool(H(torch.zeros_like(a)).any())

    def test_pinv(self, H: LinearOperator) -> None:
        y, matrix = random(2, *H.out_shape, seed=2), matrix_of(H)
        s = torch.linalg.svdvals(matrix)
        s = s / s[0]
        assert not bool(((s > NULL) & (s < 1 / CONDITION)).any())
        reference = torch.linalg.pinv(matrix, rtol=0.5 / CONDITION) @ y.flatten(1).T
        ours = H.pinv(y).flatten(1).T
        torch.testing.assert_close(ours, reference, rtol=0, atol=1e-7)

    def test_items_of_a_batch_do_not_mix(self, H: LinearOperator) -> None:
        x, y = random(3, *H.in_shape), random(3, *H.out_shape)
        for linear, batch in ((H, x), (H.adjoint, y)):
            torch.testing.assert_close(linear(batch)[1:2], linear(batch[1:2]), **TIGHT)
        torch.testing.assert_close(H.pinv(y)[1:2], H.pinv(y[1:2]), rtol=0, atol=1e-7)

    def test_single_precision(self, H: LinearOperator) -> None:
        x, y = random(2, *H.in_shape), random(2, *H.out_shape)
        for answer, reference in ((H(x.float()), H(x)), (H.adjoint(y.float()), H.adjoint(y))):
            assert answer.dtype == torch.float32
            assert reference.dtype == torch.float64
            torch.testing.assert_close(answer, reference.float(), rtol=0, atol=1e-5)

    def test_arguments_are_left_alone(self, H: LinearOperator) -> None:
        for linear, value in ((H, random(2, *H.in_shape)), (H.adjoint, random(2, *H.out_shape))):
            before = value.clone()
            linear(value)
            assert torch.equal(value, before)

    def test_precision_survives_autocast(self, H: LinearOperator) -> None:
        x = random(2, *H.in_shape, dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = H.adjoint(H(x))
        torch.testing.assert_close(inside, H.adjoint(H(x)), rtol=0, atol=1e-5)

    def test_gradients_flow_after_use_in_inference_mode(self, H: LinearOperator) -> None:
        x = random(1, *H.in_shape, dtype=torch.float32)
        y = random(1, *H.out_shape, dtype=torch.float32)
        with torch.inference_mode():
            H.adjoint(H(x))
        for value, other, linear in ((x, y, H), (y, x, H.adjoint)):
            value.requires_grad_()
            (gradient,) = torch.autograd.grad((linear(value) * other.detach()).sum(), value)
            back = H.adjoint if linear is H else H
            torch.testing.assert_close(gradient, back(other.detach()), rtol=0, atol=1e-5)

    def test_describe_is_json(self, H: LinearOperator) -> None:
        described = json.loads(json.dumps(H.describe()))
        assert described["name"] == self.name
        assert described["shape"] == list(H.in_shape)

    def test_wrong_shapes_are_named(self, H: LinearOperator) -> None:
        wrong = torch.zeros(2, *H.in_shape[:2], H.in_shape[2] + 1)
        with pytest.raises(InputError) as caught:
            H(wrong)
        for words in (
            "x has shape",
            str(tuple(wrong.shape)),
            "(B, {}, {}, {})".format(*H.in_shape),
        ):
            assert words in str(caught.value)
        for backwards in (H.adjoint, H.pinv, H.observed):
            with pytest.raises(InputError, match="y has shape"):
                backwards(torch.zeros(2, *H.out_shape, 1))

    def test_integers_are_refused(self, H: LinearOperator) -> None:
        with pytest.raises(InputError, match=r"x is torch\.uint8"):
            H(torch.zeros(1, *H.in_shape, dtype=torch.uint8))
        with pytest.raises(InputError, match=r"y is torch\.int64"):
            H.adjoint(torch.zeros(1, *H.out_shape, dtype=torch.int64))


def parametrize_linear(metafunc: pytest.Metafunc) -> None:
    """``pytest_generate_tests`` of a module whose classes inherit ``LinearCase``."""
    owner = metafunc.cls
    if "H" in metafunc.fixturenames and inspect.isclass(owner) and issubclass(owner, LinearCase):
        instances = list(owner.instances())
        labels = [f"{H.in_shape}-{index}" for index, H in enumerate(instances)]
        metafunc.parametrize("H", instances, ids=labels)
