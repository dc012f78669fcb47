"""What people run: the command line.

Implements no paper and holds no mathematics: every number comes from a room above. May live here:
commands, the words they print, and the order in which other rooms are called and files written.

    cli.py          the program: its commands, and errors in one line
    commands/       one module per command: its options and help; imports nothing heavy
    jobs/           one module per command: what it does; imports torch
    batch/          many pictures on many workers
    options.py      options that commands share
    console.py      tables, JSON, progress bars
    asking.py       what a user says of the pictures, and what a model knows of them itself
    tasks.py        from task options to operators
    origins.py      measured by an operator, or given as a condition: what a restorer is handed
    restorer.py     a model with its sampling settings, of either kind
    plans.py        how files are restored: reader, restorer, card; and how results are saved
    sources.py      files handed in, read by measurements.py or conditions.py
    cards.py        which calibration card holds for a run
    measuring.py    how true pictures become what is restored
    experiment.py   measure and restore true pictures: for calibrate, evaluate, verify, demo
    training_data.py  folders of training pictures
    truths.py       true pictures that a user names beside degraded ones
    extras.py       what is installed only if it is asked for
    outputs.py      files of a run, all of them or none
    web/            the page of certes serve
"""

from __future__ import annotations
