"""Networks: the U-Net of DDPM (Ho et al. 2020), model folders, and foreign checkpoints.

May live here: architectures and how their weights are read and written. A network here becomes a
:class:`~certes.diffusion.denoiser.Denoiser`; nothing here samples or restores.
"""

from __future__ import annotations

from certes.networks.config import UNetConfig
from certes.networks.denoiser import NetworkDenoiser
from certes.networks.model import Model, load
from certes.networks.unet import UNet

__all__ = ["Model", "NetworkDenoiser", "UNet", "UNetConfig", "load"]
