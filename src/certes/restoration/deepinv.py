"""Both ways between certes and deepinv: its physics here, our operators and models there.

deepinv (Tachella et al., "DeepInverse: A Python package for solving imaging inverse problems with
deep learning", J. Open Source Softw. 2025) calls a measurement ``physics``: a module with ``A``,
``A_adjoint`` and a noise model, pictures in [0, 1] as here. It is no dependency of certes and is
imported only where one of its classes has to be made; what is done with a physics asks for no more
than its two methods.

    posterior = certes.restore(y, physics, model, noise=0.05)          # a physics as the operator
    H = from_deepinv(physics, (1, 256, 256))                           # the same, to keep
    physics = as_physics(H, noise=0.05)                                # and back
    denoiser = as_denoiser("nuclei")                                   # for its samplers
    reconstruct = CertesReconstructor("nuclei", samples=16)            # for its benchmarks
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from certes.diffusion.denoiser import Denoiser
from certes.errors import InputError
from certes.networks.model import load
from certes.networks.prior import Prior
from certes.networks.tiling import fitted
from certes.restoration.operators.base import (
    DecomposedOperator,
    LinearOperator,
    Operator,
    as_tensor,
    checked_shape,
    padded,
)

if TYPE_CHECKING:
    from certes.restoration.deepinv_reconstructor import CertesReconstructor

__all__ = [
    "CertesReconstructor",
    "Physics",
    "PhysicsOperator",
    "as_denoiser",
    "as_physics",
    "from_deepinv",
]

# An adjoint by autograd is exact to rounding; interpolation the other way round is a few percent
# off, and conjugate gradients would wander.
_ADJOINT = 0.01


class Physics(Protocol):
    """What is asked of a linear physics of deepinv."""

    def A(self, x: Tensor, /) -> Any:
        """The noiseless measurement of a batch of pictures."""
        ...

    def A_adjoint(self, y: Tensor, /) -> Tensor:
        """The adjoint of ``A``."""
        ...


def from_deepinv(physics: Physics, in_shape: tuple[int, int, int]) -> LinearOperator:
    """A linear physics of deepinv as an operator; one that ``as_physics`` made is taken back.

    Complex measurements are (..., 2), real and imaginary parts. The physics is asked in its own
    precision and on its own device, whatever the pictures are in.

    Args:
        physics: with ``A`` and ``A_adjoint``; the same for all pictures of a batch.
        in_shape: (C, H, W) of a picture.

    Raises:
        InputError: a physics that measures a list of tensors, or whose ``A_adjoint`` is not the
            adjoint of its ``A``.
    """
    operator = getattr(physics, "operator", None)
    if isinstance(operator, LinearOperator):
        return operator
    return PhysicsOperator(physics, in_shape)


class PhysicsOperator(LinearOperator):
    """A physics of deepinv, see :func:`from_deepinv`."""

    name = "deepinv"

    def __init__(self, physics: Physics, in_shape: tuple[int, int, int]) -> None:
        shape = checked_shape(in_shape)
        self.physics = physics
        probe = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
        measured = _one_tensor(physics.A(_placed(probe, physics)))
        self._complex = measured.is_complex()
        super().__init__(shape, tuple(real_of(measured).shape[1:]))
        self._check_adjoint(probe)
        self._digest = _digest(physics)

    @property
    def noise(self) -> float | None:
        """The standard deviation of its noise model, if that has one for all values."""
        return noise_of(self.physics)

    def _apply(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b ..."]:
        return real_of(self.physics.A(_placed(x, self.physics))).to(x)

    def _adjoint(self, y: Float[Tensor, "b ..."]) -> Float[Tensor, "b c h w"]:
        z = torch.view_as_complex(y.contiguous()) if self._complex else y
        x = self.physics.A_adjoint(_placed(z, self.physics))
        # The adjoint of a complex map on real pictures.
        return (x.real if x.is_complex() else x).to(y)

    def _check_adjoint(self, x: Float[Tensor, "1 c h w"]) -> None:
        y = torch.randn(1, *self.out_shape, generator=torch.Generator().manual_seed(1))
        image = self._apply(x)
        one, other = (image * y).sum(), (x * self._adjoint(y)).sum()
        error = float((one - other).abs() / image.square().sum().sqrt())
        if not error < _ADJOINT:
            raise InputError(
                f"physics: A_adjoint of {type(self.physics).__name__} is not the adjoint of A "
                f"(relative error {error:.2g}); wanted the exact one (of deepinv's Tomography: "
                f"adjoint_via_backprop=True)"
            )

    def _parameters(self) -> dict[str, Any]:
        return {"physics": type(self.physics).__name__, "digest": self._digest}


def adopted(
    y: Any, operator: Operator | Sequence[Operator] | Physics
) -> tuple[Any, Operator | Sequence[Operator]]:
    """Measurements of a physics as real numbers, and the physics as an operator.

    What is operators already is left alone. The size of the pictures is that of ``A_adjoint(y)``.

    Raises:
        InputError: an operator that is none of these; and as :func:`from_deepinv`; measurements
            that are no tensor, none at all, or not of this physics.
    """
    if isinstance(operator, Operator | Sequence):
        return y, operator
    if not all(callable(getattr(operator, name, None)) for name in ("A", "A_adjoint")):
        raise InputError(
            f"operator: a {type(operator).__name__}; wanted an operator of certes, one for each "
            f"measurement, or a linear physics of deepinv (with A and A_adjoint)"
        )
    y = _one_tensor(y)
    if y.ndim < 2 or len(y) == 0:
        raise InputError(f"y has shape {tuple(y.shape)}; wanted a batch of measurements, not empty")
    try:
        back = operator.A_adjoint(_placed(y[:1], operator))
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(
            f"y has shape {tuple(y.shape)}, which {type(operator).__name__} cannot have measured "
            f"({str(error).splitlines()[0]})"
        ) from error
    return real_of(y), from_deepinv(operator, cast(Any, tuple(back.shape[1:])))


def real_of(y: Shaped[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
    """Complex numbers as pairs of real ones."""
    return torch.view_as_real(y) if y.is_complex() else y


def noise_of(physics: object) -> float | None:
    """The standard deviation of its noise model, if that is Gaussian with one for all values."""
    sigma = getattr(getattr(physics, "noise_model", None), "sigma", None)
    if sigma is None or torch.as_tensor(sigma).numel() != 1:
        return None
    return float(sigma)


def as_physics(operator: Operator, noise: float) -> Any:
    """An operator as a physics of deepinv with Gaussian noise.

    A decomposed operator becomes a ``DecomposablePhysics``, on which deepinv's DDRM runs: all its
    coefficients are in the layout of pictures, (n,), ``mask`` the singular values, zero where
    nothing is measured. A linear one becomes a ``LinearPhysics``, any other a ``Physics``.

    Args:
        operator: computes on the device and in the precision of what it is given.
        noise: standard deviation, image units.

    Raises:
        InputError: if deepinv is not installed.
    """
    kinds, model = _deepinv("deepinv.physics"), {"img_size": operator.in_shape}
    model["noise_model"] = kinds.GaussianNoise(noise)
    if isinstance(operator, DecomposedOperator):
        physics = kinds.DecomposablePhysics(**_singular(operator), **model)
    elif isinstance(operator, LinearOperator):
        physics = kinds.LinearPhysics(operator.__call__, operator.adjoint, **model)
    else:
        physics = kinds.Physics(operator.__call__, noise_model=model["noise_model"])
    physics.operator = operator
    return physics


def _singular(operator: DecomposedOperator) -> dict[str, Any]:
    """The decomposition as deepinv has it."""
    n, m = operator.n, operator.m

    def left(coefficients: Float[Tensor, "b n"]) -> Float[Tensor, "b ..."]:
        return operator.U(padded(coefficients[:, :m], m))

    def left_adjoint(y: Float[Tensor, "b ..."]) -> Float[Tensor, "b n"]:
        return padded(operator.Ut(y)[:, :n], n)

    singular_values = operator.spectrum.float()[None]
    return {
        "U": left,
        "U_adjoint": left_adjoint,
        "V": operator.V,
        "V_adjoint": operator.Vt,
        "mask": singular_values,
    }


def as_denoiser(model: str | Denoiser) -> torch.nn.Module:
    """A model as a denoiser of deepinv: ``(x, sigma) -> E[x_0 | x]``, all in image units ([0, 1]).

    Args:
        model: a name or folder, a loaded model, or any denoiser.

    Raises:
        ModelError: if there is no such model.
    """
    return DenoiserModule(load(model) if isinstance(model, str) else model)


class DenoiserModule(torch.nn.Module):
    """A denoiser of certes with the signature of deepinv's, see :func:`as_denoiser`."""

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.denoiser = denoiser
        if isinstance(denoiser, Prior):
            self.net = denoiser.net  # a part of this module, so that .to() moves it

    def forward(
        self, x: Float[Tensor, "b c h w"], sigma: float | list[float] | Tensor, **_: Any
    ) -> Float[Tensor, "b c h w"]:
        """``E[x_0 | x]``.

        Args:
            x: noisy pictures, image units.
            sigma: their noise, image units: one for all, or one each, of any shape.
        """
        channels, height, width = x.shape[1:]
        level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).flatten().expand(len(x))
        return fitted(self.denoiser, (channels, height, width))(x, level).mean


def __getattr__(name: str) -> Any:
    if name != "CertesReconstructor":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _deepinv("certes.restoration.deepinv_reconstructor").CertesReconstructor


def _deepinv(module: str) -> Any:
    """A module that is, or needs, deepinv's; it comes without types."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(
            f"deepinv cannot be imported ({error}); it is no part of certes: pip install deepinv"
        ) from error


def _one_tensor(y: Any) -> Tensor:
    if not isinstance(y, Tensor) and not hasattr(y, "__array__"):
        raise InputError(
            f"y is a {type(y).__name__}; wanted one tensor: for a stack of physics give "
            f"Stacked([from_deepinv(p, shape) for p in physics]) and its join(y)"
        )
    return as_tensor(y)


def _placed(value: Tensor, physics: object) -> Tensor:
    """On the device and, if that can be told, in the precision of what the physics holds."""
    if value.is_complex():
        return torch.view_as_complex(_placed(torch.view_as_real(value), physics))
    held = [buffer for _, buffer in _buffers(physics)]
    precise = [buffer.real.dtype for buffer in held if not _counts(buffer)]
    device = held[0].device if held else value.device
    return value.to(device, precise[0] if precise else value.dtype)


def _counts(buffer: Tensor) -> bool:
    return not (buffer.is_floating_point() or buffer.is_complex())


def _buffers(physics: object) -> Iterable[tuple[str, Tensor]]:
    """What it holds, except for its noise."""
    if not isinstance(physics, torch.nn.Module):
        return
    for held in (physics.named_buffers(), physics.named_parameters()):
        yield from (pair for pair in held if not pair[0].startswith("noise_model."))


def _digest(physics: object) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, value in sorted(_buffers(physics), key=lambda pair: pair[0]):
        digest.update(f"{name} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
