"""The web page: `certes serve`. Needs the extra ``web`` (gradio).

Implements no paper and holds no mathematics. May live here: the page, what its buttons do, and what
keeps its users apart and within limits.

    limits.py    what one request may take: pixels, bytes, seconds
    desks.py     what a user has before him: one folder, which nobody else can reach
    guard.py     between the browser and gradio: who is asking, and which files he may have
    forms.py     what was filled in, as options of the command line
    watched.py   a plan whose restorer tells of its progress and keeps its samples
    runs.py      one restoration: progress, previews, and its result
    answers.py   what a result says of a pixel and of a region
    memory.py    keeping the server as small as what it holds
    words.py     what the page says
    drawing.py   pictures and small figures for the page
    style.py     how the page looks
    handlers.py  what happens on a click
    page.py      the page
    server.py    starting it, and leaving nothing behind
"""

from __future__ import annotations
