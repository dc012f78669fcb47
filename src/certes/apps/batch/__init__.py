"""Many pictures on many workers: Ray Data runs it, what it does is restoring one picture.

places.py     folders on a disk or in an object store
inputs.py     which pictures are meant by a folder, a glob or a file
job.py        what every worker is told
worker.py     restores what it is handed, several pictures of a size at once
attempts.py   which pictures were in hand when a worker died
manifest.py   one row for each picture, kept through kills
cluster.py    a Ray of one's own, or one that runs elsewhere
engine.py     hands pictures to workers and rows back
calibrating.py  true pictures counted by many workers, for one calibration card
"""

from __future__ import annotations
