r"""From an operator network to a denoiser of pictures of any resolution.

To solvers and posterior samplers a model of functions is a denoiser like any other: a picture
:math:`x = x_0 + \sigma e` of pitch :math:`p` is a function with white noise of level
:math:`\sigma p` for each unit of area, the network is shown its blur and answers with that of
:math:`x_0`, and what the blur took away is estimated by the filter (:mod:`.unmollify`).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from certes.diffusion.covariance import Covariance
from certes.diffusion.denoiser import Denoised, Denoiser
from certes.diffusion.residuals import ResidualSpectrum, SpectralCovariance
from certes.errors import InputError, ModelError
from certes.function_space.autoencoder import DiffusionAutoencoder
from certes.function_space.coordinates import Lattice, Points, all_points
from certes.function_space.mollifier import squared_frequencies
from certes.function_space.reading import Reading
from certes.function_space.unmollify import SpectralFilter, Unmollifier, WienerFilter
from certes.networks.denoiser import bounded_exp

Picture = Float[Tensor, "b c h w"]
Tokens = Float[Tensor, "b l c"]
Scalars = Float[Tensor, " b"]

# Points that the network takes at a time on a CPU.
_AT_ONCE = 2**17


class FunctionDenoiser(Denoiser):
    """An operator network, read as ``E[x_0 | x]`` in image units.

    Args:
        net: the network.
        reading: its units and process.
        pitch: of the pictures' pixels; 1: those of the training pictures.
        code: of the functions, one for each or one for all, if the network shall be told.
        unmollify: the measured filter, or by default the paper's.
        spectrum: measured residual spectrum, if there is one, of pitch 1.
        inflation: measured ratio of its errors to its samples' spread.
    """

    confined = True

    def __init__(
        self,
        net: DiffusionAutoencoder,
        reading: Reading,
        pitch: float = 1.0,
        code: Float[Tensor, "b z"] | None = None,
        unmollify: Unmollifier | None = None,
        spectrum: ResidualSpectrum | None = None,
        inflation: float = 1.0,
    ) -> None:
        self.net, self.reading, self.pitch, self.code = net, reading, pitch, code
        self.unmollify: Unmollifier = unmollify or WienerFilter(reading.mollifier)
        self.spectrum, self.inflation = spectrum, inflation

    def at(self, pitch: float, code: Float[Tensor, "b z"] | None = None) -> FunctionDenoiser:
        """The same model for pictures of another resolution, or of known codes.

        Args:
            pitch: length of a pixel, in training pixels.
            code: of the functions.
        """
        return FunctionDenoiser(
            self.net, self.reading, pitch, code, self.unmollify, self.spectrum, self.inflation
        )

    @property
    def channels(self) -> int:
        """Of the functions."""
        return self.net.config.channels

    @property
    def device(self) -> torch.device:
        """Where the network lives; pictures must be there too."""
        return next(self.net.parameters()).device

    def level(self, sigma: Scalars) -> Scalars:
        r""":math:`\rho`, network units and area, of noise in image units."""
        return sigma * self.pitch / self.reading.scale

    def __call__(self, x: Picture, sigma: Scalars) -> Denoised:
        """``E[x_0 | x]`` and, where the network predicts it, the variance of every pixel.

        The answer is part of a graph only if ``x`` asks for gradients.

        Raises:
            ModelError: if the pictures have another number of channels than the network.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and x.requires_grad):
            seen = self.reading.normalised(x)
            blurred = self.reading.mollifier(seen, self.pitch)
            answer, variance = self._blurred(blurred, sigma)
            return self._denoised(answer, variance, seen, sigma)

    def of_blur(self, blurred: Picture, sigma: Scalars) -> Denoised:
        r"""The same of ``T x``, for those who have no more: the paper's states.

        Args:
            blurred: :math:`T (x_0 + \sigma e)`, image units.
            sigma: noise standard deviation of the unblurred pixels, image units.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and blurred.requires_grad):
            answer, variance = self._blurred(self.reading.normalised(blurred), sigma)
            return self._denoised(answer, variance, None, sigma)

    def blurred(self, blurred: Picture, sigma: Scalars) -> Picture:
        """``E[T x_0 | T x]``, image units, of ``T x``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and blurred.requires_grad):
            answer, _ = self._blurred(self.reading.normalised(blurred), sigma)
            if self.reading.prediction == "x0":
                answer = self.reading.mollifier(answer, self.pitch)
            return self.reading.image(answer)

    def _denoised(
        self, answer: Picture, variance: Picture | None, seen: Picture | None, sigma: Scalars
    ) -> Denoised:
        if self.reading.prediction != "x0":
            answer = self.unmollify(answer, seen, self.level(sigma), self.pitch)
        mean = self.reading.image(answer)
        return Denoised(mean, None if variance is None else variance * self.reading.scale**2)

    def _blurred(self, blurred: Picture, sigma: Scalars) -> tuple[Picture, Picture | None]:
        """The network's estimate of :math:`T z_0` (or :math:`z_0`), with the variance of its error.

        Args:
            blurred: :math:`T z`, network units.
            sigma: image units.
        """
        if blurred.shape[1] != self.channels:
            raise ModelError(
                f"model: trained on {self.channels} channel(s), the picture has "
                f"{blurred.shape[1]}; convert the picture or choose another model"
            )
        lattice = Lattice(blurred.shape[2], blurred.shape[3], self.pitch)
        parts = [
            self._part(blurred[rows], sigma[rows], rows, lattice)
            for rows in _portions(len(blurred), len(lattice), blurred.is_cuda)
        ]
        answers, variances = zip(*parts, strict=True)
        variance = torch.cat(variances) if variances[0] is not None else None
        return torch.cat(answers), variance

    def _part(
        self, blurred: Picture, sigma: Scalars, rows: slice, lattice: Lattice
    ) -> tuple[Picture, Picture | None]:
        points = all_points(lattice, len(blurred), blurred.device)
        ratio = self.level(sigma)[:, None, None, None] * self.reading.deviation(lattice).to(blurred)
        code = self.code
        if code is not None:
            code = code.expand(len(blurred), -1) if len(code) == 1 else code[rows]
        mean, variance = self.predict(
            points.values(blurred), points, points.values(ratio), self.level(sigma), code
        )
        return points.picture(mean), None if variance is None else points.picture(variance)

    def predict(
        self,
        blurred: Tokens,
        points: Points,
        ratio: Tokens,
        level: Scalars,
        code: Float[Tensor, "b z"] | None = None,
    ) -> tuple[Tokens, Tokens | None]:
        r"""The network's estimate at coordinates, network units, and the variance of its error.

        Args:
            blurred: values of :math:`T z` at the points.
            points: where; of any resolution.
            ratio: :math:`r` there.
            level: :math:`\rho` of each function.
            code: of each function.
        """
        reading, channels = self.reading, self.channels
        seen = reading.seen(blurred, ratio)
        time = reading.told(reading.time(level)).to(seen)
        precision = self.net.operator.lift.weight.dtype
        code = None if code is None else code.to(precision)
        output = self.net.operator(seen.to(precision), points, time, code).to(seen)
        mean = reading.clean(seen, output[..., :channels], ratio)
        if output.shape[-1] == channels:
            return mean, None
        return mean, bounded_exp(output[..., channels:]) * reading.weight(ratio) ** 2

    def encode(self, x: Picture, points: Points | None = None) -> Float[Tensor, "b z"]:
        """Codes of clean pictures of the training domain, from some of their pixels or all.

        Raises:
            ModelError: if the model has no encoder.
            InputError: for pictures of another domain, of which a code would say too little.
        """
        if self.net.encoder is None:
            raise ModelError("model: has no encoder; train one with a latent in its network")
        lattice, domain = Lattice(x.shape[2], x.shape[3], self.pitch), self.net.config.domain
        if any(abs(side - domain) > self.pitch / 2 for side in lattice.extent):
            raise InputError(
                f"x: {x.shape[2]} x {x.shape[3]} pixels of pitch {self.pitch:g}; codes are of "
                f"domains of {domain} x {domain} training pixels: crop, or say the pitch"
            )
        points = points or all_points(lattice, len(x), x.device)
        blurred = self.reading.mollifier(self.reading.normalised(x), self.pitch)
        with torch.no_grad():
            values = points.values(blurred).to(self.net.operator.lift.weight.dtype)
            return self.net.encoder(values, points).float()

    def covariance(self, denoised: Denoised, sigma: Scalars) -> Covariance:
        """``D^(1/2) S D^(1/2)``; see :mod:`certes.diffusion.residuals`.

        Finer than the training pixels the error is that of the filter's power law.

        Raises:
            ModelError: if no residual spectrum was measured.
        """
        if self.spectrum is None:
            raise ModelError(
                "model: no residual spectrum is stored with it; publish it with "
                "certes.function_space.publish"
            )
        shape = (denoised.mean.shape[-2], denoised.mean.shape[-1])
        variance = denoised.variance
        typical = sigma.new_ones(len(sigma), 1, 1, 1)
        if variance is not None:
            typical = variance.mean(dim=(1, 2, 3), keepdim=True)
        spectrum = self._spectrum(self.spectrum, sigma, shape, typical).to(denoised.mean)
        deviation = spectrum.new_ones(1, 1, 1, 1) if variance is None else variance.sqrt()
        return SpectralCovariance(spectrum, deviation)

    def _spectrum(
        self,
        measured: ResidualSpectrum,
        sigma: Scalars,
        shape: tuple[int, int],
        typical: Float[Tensor, "b 1 1 1"],
    ) -> Float[Tensor, "b c h w"]:
        """Of pictures of this pitch: one of a finer pitch has the measured coefficients first.

        Args:
            measured: of pitch 1.
            sigma: image units, of pixels of this pitch.
            shape: rows and columns.
            typical: the mean variance that the spectrum will be multiplied by.
        """
        rows, columns = (max(1, round(side * self.pitch)) for side in shape)
        known = measured.at(sigma * self.pitch, (rows, columns))[..., : shape[0], : shape[1]]
        known = known / self.pitch**2
        if isinstance(self.unmollify, SpectralFilter):
            prior = self.unmollify.beyond(squared_frequencies(shape, self.pitch)).to(known)
            noise = self.level(sigma)[:, None, None, None] ** 2
            finer = prior * noise / (prior + noise) * (self.reading.scale / self.pitch) ** 2
            finer = (finer / typical).expand(-1, known.shape[1], -1, -1).clone()
        else:
            finer = known.amin(dim=(2, 3), keepdim=True).expand(-1, -1, *shape).clone()
        finer[..., : known.shape[2], : known.shape[3]] = known
        return finer


def _portions(count: int, points: int, at_once: bool) -> Iterator[slice]:
    """Batches that a CPU's memory likes."""
    size = count if at_once else max(1, _AT_ONCE // points)
    return (slice(first, first + size) for first in range(0, count, size))
