"""Ends by a segmentation fault, as pycocotools does on a coordinate of 1e12: python -m faults.dying."""

from __future__ import annotations

import os
import signal

if __name__ == "__main__":
    os.kill(os.getpid(), signal.SIGSEGV)
