"""Infinity-Diff: diffusion on functions (Bond-Taylor & Willcocks 2024, arXiv:2303.18242).

A picture is what is known of a function at some coordinates. ``mollifier`` blurs functions and
their noise, so that they have values at all; ``coordinates`` says where they are known,
``network`` is the operator that maps functions to functions (``neighbours``,
``sparse_convolution``: among points; ``interpolation``: to a fixed grid and back), ``autoencoder``
codes them (``latent`` draws codes), ``reading`` and ``denoiser`` make of it a denoiser of pictures
of any resolution, and ``unmollify`` gives back what the blur took. ``process`` and ``encoding``
walk mollified states, ``noise`` is the same at every resolution, ``fields`` are exact.
``sampling``, ``reconstruction``, ``guidance`` and ``restore`` are what it is for; ``certificate``
says how far a model is from knowing no pixels.
"""
