"""What `tune` was asked for: checked before anything is read, and printed by `--dry-run`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from cryossl.commands.expected_time import range_text
from cryossl.config import Config
from cryossl.config_file import read_document
from cryossl.data.splits import Split
from cryossl.data.store.plan import StorePlan
from cryossl.errors import ConfigError
from cryossl.network import device as devices
from cryossl.network.speed import measure_speed
from cryossl.progress.console import ProgressConsole
from cryossl.progress.terminal import echo
from cryossl.selftraining.arms import phase_title
from cryossl.selftraining.estimates import phase_seconds
from cryossl.strategy_names import BASELINE, CONTROLS
from cryossl.sweep.executors import Executor
from cryossl.sweep.grid import Cell, cells
from cryossl.sweep.sweep import choose_place, prepare_cells
from cryossl.tuning.space import Dimension, Range, Space, space_of, with_values
