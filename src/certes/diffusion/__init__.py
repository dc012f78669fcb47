"""What a diffusion model is, without any network: schedules, bases, processes, denoisers, solvers.

Implements the mathematics of DDPM (Ho et al. 2020), score-based SDEs (Song et al. 2021), DDIM,
DPM-Solver++ and UniPC. Times are continuous, coefficients float64, ``x_0`` is in image units and
``x_t`` in process coordinates. What may live here: statements about ``p(x_0)``, ``p(x_t | x_0)``
and walks between them. Networks, training and measurements are other rooms' business.
"""
