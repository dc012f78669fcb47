"""Conditional score models: CDE, CDiffE and CMDE (Batzolis et al. 2021, arXiv:2111.13606).

A pair (x, y) diffuses at a speed for each block: ``estimators`` says which blocks are noised and
predicted and how their errors weigh (``weighting``), ``tasks`` what a condition is made of,
``policies`` which y_t a reverse process sees, ``restore`` draws answers, ``likelihood`` tells what
they are worth. Networks on pairs are in ``certes.networks``, exact pairs in ``certes.diffusion``.
"""
