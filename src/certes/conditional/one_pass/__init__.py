"""Bounds in one pass, and the methods that Conffusion compares (Horwitz and Hoshen 2022).

===============  ==============================================  ==============================
method           starts from                                     learns from
===============  ==============================================  ==============================
ADM_UQ           nothing (`starts.from_nothing`)                 truths, by quantile losses
DM_SB            (samples: `certes.restore(...).bounds(alpha)`)
DM_SBA           a conditional model (`starts.from_conditional`) bounds of its samples (`sampled`)
N-Conffusion     a conditional model (`starts.from_conditional`) truths, by quantile losses
G-Conffusion     a model of pictures (`starts.from_pictures`)    truths, by quantile losses
===============  ==============================================  ==============================

All answer with raw :class:`~certes.intervals.bounds.Bounds`, which ``certes.calibrate`` gives their
guarantee. Other heads than quantiles are in :mod:`certes.networks.heads`.
"""
