"""What people run: the command line.

Implements no paper and holds no mathematics: every number comes from a room above. May live here:
commands, the words they print, and the order in which other rooms are called and files written.

    cli.py          the program: its commands, and errors in one line
    commands/       one module per command: its options and help; imports nothing heavy
    jobs/           one module per command: what it does; imports torch
    options.py      options that commands share
    console.py      tables, JSON, progress bars
    tasks.py        from task options to operators
    restorer.py     a model with its sampling settings
    cards.py        which calibration card holds for a run
    experiment.py   degrade and restore true pictures: for calibrate, evaluate, verify, demo
    truths.py       true pictures that a user names beside degraded ones
    outputs.py      files of a run, all of them or none
"""

from __future__ import annotations
