"""The test case that every linear operator inherits."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from certes.errors import InputError
from certes.restoration.operators import DecomposedOperator

TIGHT = {"rtol": 0.0, "atol": 1e-10}


def dense(H: DecomposedOperator) -> Tensor:
    """The (m, n) matrix of an operator, column by column from its direct route ``H(x)``."""
    impulses = torch.eye(H.n, dtype=torch.float64).reshape(-1, *H.in_shape)
    return H(impulses).flatten(1).T


def columns(linear: object, size: int) -> Tensor:
    """The matrix of a map from (B, size) coefficients."""
    assert callable(linear)
    return linear(torch.eye(size, dtype=torch.float64)).flatten(1).T


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class OperatorCase:
    """Subclass it, list small instances in ``instances``, and have every check run on each.

    ``name`` is the task they must report.
    """

    name = ""

    @staticmethod
    def instances() -> Iterator[DecomposedOperator]:
        raise NotImplementedError

    def test_adjoint_identity(self, H: DecomposedOperator) -> None:
        x, y = random(3, *H.in_shape), random(3, *H.out_shape, seed=1)
        left = (H(x) * y).flatten(1).sum(1)
        torch.testing.assert_close(left, (x * H.adjoint(y)).flatten(1).sum(1), **TIGHT)

    def test_adjoint_is_the_transpose(self, H: DecomposedOperator) -> None:
        impulses = torch.eye(H.m, dtype=torch.float64).reshape(-1, *H.out_shape)
        torch.testing.assert_close(H.adjoint(impulses).flatten(1), dense(H), **TIGHT)

    def test_singular_vectors_are_orthonormal_and_complete(self, H: DecomposedOperator) -> None:
        for vectors in (columns(H.V, H.n), columns(H.U, H.m)):
            identity = torch.eye(len(vectors), dtype=torch.float64)
            torch.testing.assert_close(vectors @ vectors.T, identity, **TIGHT)
            torch.testing.assert_close(vectors.T @ vectors, identity, **TIGHT)

    def test_transposes_are_inverses(self, H: DecomposedOperator) -> None:
        c, d = random(2, H.n), random(2, H.m)
        torch.testing.assert_close(H.Vt(H.V(c)), c, **TIGHT)
        torch.testing.assert_close(H.Ut(H.U(d)), d, **TIGHT)

    def test_rows_are_the_first_columns_of_v(self, H: DecomposedOperator) -> None:
        r = len(H.singular_values)
        v = columns(H.V, H.n)[:, :r]
        torch.testing.assert_close(columns(H.rows, r), v, **TIGHT)
        x = random(3, *H.in_shape)
        torch.testing.assert_close(H.rows_t(x), x.flatten(1) @ v, **TIGHT)

    def test_decomposition_reproduces_the_matrix(self, H: DecomposedOperator) -> None:
        r = min(H.m, H.n)
        u, v = columns(H.U, H.m), columns(H.V, H.n)
        product = u[:, :r] @ H.singular_values.diag() @ v[:, :r].T
        torch.testing.assert_close(product, dense(H), **TIGHT)

    def test_singular_values_are_those_of_the_matrix(self, H: DecomposedOperator) -> None:
        reference = torch.linalg.svdvals(dense(H))
        assert bool((H.singular_values >= 0).all())
        ours = H.singular_values.sort(descending=True).values
        torch.testing.assert_close(ours, reference, **TIGHT)

    def test_spectrum_is_padded_with_zeros(self, H: DecomposedOperator) -> None:
        assert H.spectrum.shape == (H.n,)
        gram = dense(H).T @ dense(H)
        v = columns(H.V, H.n)
        torch.testing.assert_close(v.T @ gram @ v, (H.spectrum**2).diag(), **TIGHT)

    def test_pinv(self, H: DecomposedOperator) -> None:
        y = random(2, *H.out_shape, seed=2)
        matrix = dense(H)
        s = torch.linalg.svdvals(matrix)
        cut = H.tolerance(torch.float64)
        # A value at the cut may fall on either side in the two decompositions: none may lie there.
        assert not bool(((s > cut / 4) & (s < 100 * cut)).any())
        reference = torch.linalg.pinv(matrix, atol=cut, rtol=0.0) @ y.flatten(1).T
        ours = H.pinv(y).flatten(1).T
        # Both answers carry rounding errors, amplified by the smallest singular value kept.
        scale = float(1 / s[s > cut].min())
        torch.testing.assert_close(ours, reference, rtol=0.0, atol=1e-10 * max(1.0, scale))

    def test_items_of_a_batch_do_not_mix(self, H: DecomposedOperator) -> None:
        x, y = random(3, *H.in_shape), random(3, *H.out_shape)
        torch.testing.assert_close(H(x)[1:2], H(x[1:2]), **TIGHT)
        torch.testing.assert_close(H.pinv(y)[1:2], H.pinv(y[1:2]))

    def test_single_precision(self, H: DecomposedOperator) -> None:
        x, y = random(2, *H.in_shape), random(2, *H.out_shape)
        for answer, reference in ((H(x.float()), H(x)), (H.adjoint(y.float()), H.adjoint(y))):
            assert answer.dtype == torch.float32
            torch.testing.assert_close(answer, reference.float(), rtol=0, atol=1e-5)
        there_and_back = H.U(H.Ut(y.float()))
        assert there_and_back.dtype == torch.float32
        torch.testing.assert_close(there_and_back, y.float(), rtol=0, atol=1e-5)

    def test_precision_survives_autocast(self, H: DecomposedOperator) -> None:
        x = random(2, *H.in_shape, dtype=torch.float32)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = H.V(H.Vt(x))
        torch.testing.assert_close(inside, H.V(H.Vt(x)), rtol=0, atol=1e-6)

    def test_gradients_flow_after_use_in_inference_mode(self, H: DecomposedOperator) -> None:
        # Single precision: its constants are copies, made at first use.
        x = random(1, *H.in_shape, dtype=torch.float32)
        y = random(1, *H.out_shape, dtype=torch.float32)
        with torch.inference_mode():
            H.U(H.Ut(H(x)))
        x.requires_grad_()
        (gradient,) = torch.autograd.grad((H(x) * y).sum(), x)
        torch.testing.assert_close(gradient, H.adjoint(y), rtol=0, atol=1e-5)

    def test_describe_is_json(self, H: DecomposedOperator) -> None:
        described = json.loads(json.dumps(H.describe()))
        assert described["name"] == self.name
        assert described["shape"] == list(H.in_shape)

    def test_wrong_shapes_are_named(self, H: DecomposedOperator) -> None:
        wrong = torch.zeros(2, *H.in_shape[:2], H.in_shape[2] + 1)
        came, wanted = str(tuple(wrong.shape)), "(B, {}, {}, {})".format(*H.in_shape)
        for maps in (H, H.Vt):
            with pytest.raises(InputError) as caught:
                maps(wrong)
            assert came in str(caught.value)
            assert wanted in str(caught.value)
        with pytest.raises(InputError, match="y has shape"):
            H.adjoint(wrong)
        with pytest.raises(InputError, match="coefficients has shape"):
            H.V(torch.zeros(1, H.n + 1))

    def test_integer_pictures_are_refused(self, H: DecomposedOperator) -> None:
        with pytest.raises(InputError, match="uint8"):
            H(torch.zeros(1, *H.in_shape, dtype=torch.uint8))


def parametrize_instances(metafunc: pytest.Metafunc) -> None:
    """``pytest_generate_tests`` of a module whose classes inherit ``OperatorCase``."""
    owner = metafunc.cls
    if "H" in metafunc.fixturenames and inspect.isclass(owner) and issubclass(owner, OperatorCase):
        instances = list(owner.instances())
        labels = [f"{H.in_shape}-{index}" for index, H in enumerate(instances)]
        metafunc.parametrize("H", instances, ids=labels)
