"""What the command returns to the shell: 0 is success."""

from __future__ import annotations

DISAGREE = 1  # two ways to compute the same thing differ, or a check does not hold
MISTAKE = 2  # of the user: a flag, a file, a setting
INTERRUPTED = 130  # as shells report a program that Ctrl-C ended
