r"""The likelihood of pictures, in bits per dimension: the variational bound and the flow.

.. math:: -\log p(x_0) \le \underbrace{KL(q(x_T|x_0) \| p(x_T))}_{L_T}
          + \sum_{t > s > 0} \underbrace{E\, KL(q(x_s|x_t, x_0) \| p(x_s|x_t))}_{L_{t-1}}
          + \underbrace{E[-\log p(x_0|x_1)]}_{L_0}

as Ho et al. (2020, arXiv:2006.11239, eq. 5 and section 3.3) evaluate it: every term from an
``x_t`` of its own, ``x_0`` an 8-bit picture whose pixels are bins of a Gaussian. Any process, any
descending grid of times, any of the four variances of :mod:`certes.diffusion.reverse`. Or by the
density that the probability flow gives them (:mod:`certes.diffusion.likelihood.flow`). What may
live here: both, their parts, and how to estimate them with fewer network calls.
"""

from certes.diffusion.likelihood.bound import variational_bound
from certes.diffusion.likelihood.decoder import Decoder, log_probability
from certes.diffusion.likelihood.dequantisation import bits_per_dimension, dequantised
from certes.diffusion.likelihood.flow import (
    Flow,
    FlowLikelihood,
    flow_levels,
    flow_likelihood,
    flow_log_likelihood,
    signs,
)
from certes.diffusion.likelihood.result import Bound, Level
from certes.diffusion.likelihood.steps import bound_times

__all__ = [
    "Bound",
    "Decoder",
    "Flow",
    "FlowLikelihood",
    "Level",
    "bits_per_dimension",
    "bound_times",
    "dequantised",
    "flow_levels",
    "flow_likelihood",
    "flow_log_likelihood",
    "log_probability",
    "signs",
    "variational_bound",
]
