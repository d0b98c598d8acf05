"""Self-training for particle segmentation in cryo-EM, as one tracked experiment.

Importing it bounds how long the threads of OpenMP spin while they wait for each other. The runtimes
read their variables when torch loads, and child processes inherit them, so this is the one place
that every command, cell, test and benchmark passes in time. A thread that the system has put aside
for another program keeps the others waiting: by default they spin until it comes back, and take
the cores that it waits for. What the user has set stays.
"""

from __future__ import annotations

import os

if "OMP_WAIT_POLICY" not in os.environ:
    # GNU OpenMP: turns of the loop that waits. LLVM's and Intel's: milliseconds.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if "KMP_LIBRARY" not in os.environ:
        os.environ.setdefault("KMP_BLOCKTIME", "1")
