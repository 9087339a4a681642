"""Compares what a user gets from two checkouts: the safety net for refactors.

    scripts/same_as.sh BASE

`trees` copies the checkouts and runs commands in them, `makers` makes what is compared, `readers`
reads it, `compare` finds the first difference. Nothing here imports the package it compares, so the
modules of the two checkouts may have any names: what counts is what the command line does and what
it leaves in a run folder.
"""
