"""The operators' case where exact zeros among the singular values are part of the design."""

from __future__ import annotations

import torch

from certes.restoration.operators import DecomposedOperator

from .operator_case import OperatorCase, dense, random

GAP = (1e-12, 1e-3)


class GappedCase(OperatorCase):
    """Singular values that are zero or far from it, so that any cut in between is the right one.

    LAPACK may find an exact zero just above the cut that the operator makes at rounding errors.
    """

    def test_pinv(self, H: DecomposedOperator) -> None:
        y, matrix = random(2, *H.out_shape, seed=2), dense(H)
        s = torch.linalg.svdvals(matrix)
        assert not bool(((s > GAP[0]) & (s < GAP[1])).any())
        reference = torch.linalg.pinv(matrix, atol=GAP[1] / 2, rtol=0.0) @ y.flatten(1).T
        torch.testing.assert_close(H.pinv(y).flatten(1).T, reference, rtol=0, atol=1e-10)
