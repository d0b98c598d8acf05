"""Where results and records of a run go: the settings of the section `run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_serializer

from cryossl.redaction import redacted, shown
from cryossl.setting import Nothing, Section, Unit


class RunSettings(Section):
    """Where results and records go. Only `keep_stages` can change a number, and says so."""

    name: Nothing[Annotated[str, Unit("name")]] = Field(
        "pseudolabel_balanced",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="name of the results folder",
    )
    results: Nothing[Path] = Field(Path("experiments"), description="folder of the results folders")
    work: Nothing[Path] = Field(
        Path("work"),
        description="folder of decoded micrographs and finished stages; may be shared",
    )
    checkpoint_seconds: Nothing[Annotated[float, Unit("seconds")]] = Field(
        30.0,
        ge=0,
        description="least time between two checkpoints of a training: the most work that a kill "
        "loses",
    )
    tracking_uri: Nothing[Annotated[str, Unit("uri")]] = Field(
        "sqlite:///mlflow.db",
        min_length=1,
        description="MLflow tracking store; MLFLOW_TRACKING_URI takes its place",
    )
    strict_tracking: Nothing[bool] = Field(
        False,
        description="a tracking store that lacks something when the run has ended is a failure, "
        "exit code 3",
    )
    keep_stages: Nothing[bool] = Field(
        False,
        description="reuse finished stages although the code or a library has changed since; the "
        "run and the report say so",
    )
    keep_maps: Nothing[bool] = Field(
        False,
        description="leave the baseline's probability maps of the pool in the work folder: a run "
        "with other thresholds reuses them",
    )
    experiment: Nothing[Annotated[str, Unit("name")]] = Field(
        "cryossl",
        min_length=1,
        description="MLflow experiment; MLFLOW_EXPERIMENT_NAME takes its place",
    )

    register_as: Nothing[Annotated[str, Unit("name")]] = Field(
        "",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,99})?$",
        description="name in MLflow's registry: the accepted model that is best on validation "
        "becomes its next version; empty: none",
    )

    @property
    def store_options(self) -> dict[str, str]:
        """The options with which another command reads the same store, where it is no default."""
        return {
            f"--{name.replace('_', '-')}": redacted(value)
            for name in ("tracking_uri", "experiment")
            if (value := getattr(self, name)) != type(self).model_fields[name].default
        }

    @property
    def folder(self) -> Path:
        """The results folder of the run."""
        return self.results / self.name

    @property
    def stages(self) -> Path:
        """Folder of finished stages."""
        return self.work / "stages"

    @property
    def stores(self) -> Path:
        """Folder of stores of decoded micrographs."""
        return self.work / "stores"

    @property
    def journals(self) -> Path:
        """Folder of the journals of tracked runs."""
        return self.work / "journals"

    @property
    def data_sets(self) -> Path:
        """Folder of data sets that a run writes for itself."""
        return self.work / "data"

    @property
    def code_file(self) -> Path:
        """File that keeps which code the newest stages were made with."""
        return self.work / "code.json"

    @property
    def threads_file(self) -> Path:
        """File that keeps the number of CPU threads that was fastest here."""
        return self.work / "threads.json"

    @field_serializer("tracking_uri", when_used="json")
    def _as_shown(self, uri: str) -> str:
        """Others read the settings that are written down."""
        return shown(uri)
