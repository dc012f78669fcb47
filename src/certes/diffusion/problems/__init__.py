"""Problems whose every answer is known: the ground truth of this package's tests, and of yours.

A Gaussian or a mixture of Gaussians under noise and under any linear operator has a closed form
(Bishop 2006, section 2.3) for its denoiser, the denoiser's covariance, its posterior and its
likelihood. What may live here: distributions of pictures with exact answers, written densely.
"""

from certes.diffusion.problems.conditional import ConditionalGaussian, ConditionalMixture
from certes.diffusion.problems.gaussian import GaussianProblem
from certes.diffusion.problems.mixture import MixturePosterior, MixtureProblem

__all__ = [
    "ConditionalGaussian",
    "ConditionalMixture",
    "GaussianProblem",
    "MixturePosterior",
    "MixtureProblem",
]
