"""Runs that are forked from a process which has imported everything; a fresh process needs seconds for that.

    pulselake dev ── warm server ── run           server.py, preload.py: the server; worker.py: a run's process
         │               ▲     └─── run
         └── Dagster ────┘ socket                 launcher.py: asks the server, else starts the run as Dagster does

Each run holds a lock on a file of its own as long as it lives (files.py). So whether a run lives is known without the
server, and without the daemon.
"""
