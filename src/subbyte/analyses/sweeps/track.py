"""Runs recorded with MLflow (the optional extra `mlflow`), beside the files that a sweep writes
anyway.
"""

import os
from pathlib import Path

from subbyte.analyses.sweeps.store import Task
from subbyte.errors import SubbyteError
from subbyte.records.outcome import Failed, Outcome

PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"""MLflow's settings where the environment does not give them; its defaults try for minutes."""


class MlflowTracker:
    """uri: of a tracking server or database; empty: a SQLite file mlflow.db here. name: of the
    experiment.

    A server that goes away later does not stop a sweep: `finish` says how many runs were not
    recorded.
    Raises SubbyteError when MLflow is missing or the server can't be reached.
    """

    def __init__(self, uri: str, name: str) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise SubbyteError(
                "--track mlflow needs mlflow: pip install 'subbyte[mlflow]'"
            ) from error
        for variable, value in PATIENCE.items():
            os.environ.setdefault(variable, value)
        self._uri = uri or "sqlite:///mlflow.db"
        self._missing, self._why = 0, ""
        self._client = mlflow.MlflowClient(tracking_uri=self._uri)
        self._name = name
        try:
            found = self._client.get_experiment_by_name(name)
            self._experiment = (
                found.experiment_id if found else self._client.create_experiment(name)
            )
        except Exception as error:  # servers fail in many ways
            raise SubbyteError(
                f"--track mlflow:{self._uri}: the server does not answer as it should "
                f"({' '.join(str(error).split())})"
            ) from error

    def log(self, task: Task, outcome: Outcome) -> None:
        """See `sweep.Tracker`: settings as parameters, measurements as metrics."""
        if not self._missing:
            try:
                self._log(task, outcome)
                return
            except Exception as error:  # as above
                self._why = " ".join(str(error).split())
        self._missing += 1

    def _log(self, task: Task, outcome: Outcome) -> None:
        run, client = task.run, self._client
        made = client.create_run(self._experiment, run_name=task.key)
        settings = {
            "model": run.model,
            "recipe": run.recipe.name,
            "seed": run.seed,
            "calibration": run.calibration,
            "split": run.split,
        }
        for name, value in {**settings, **run.setting}.items():
            client.log_param(made.info.run_id, name, value)
        if isinstance(outcome, Failed):
            client.set_tag(made.info.run_id, "error", outcome.error)
            client.set_terminated(made.info.run_id, "FAILED")
            return
        for name, value in outcome.numbers.items():
            client.log_metric(made.info.run_id, name, value)
        client.set_terminated(made.info.run_id, "FINISHED")

    def finish(self, out: Path) -> None:
        """See `sweep.Tracker`: the tables as artefacts of a run of their own.

        Raises SubbyteError where anything was not recorded.
        """
        if not self._missing:
            try:
                self._finish(out)
                return
            except Exception as error:  # as above
                self._why = " ".join(str(error).split())
        what = f"{self._missing} runs and the tables" if self._missing else "the tables"
        raise SubbyteError(
            f"--track mlflow:{self._uri}: {what} were not recorded ({self._why}); all of it is in "
            f"{out}"
        )

    def _finish(self, out: Path) -> None:
        made = self._client.create_run(self._experiment, run_name=f"{self._name}: tables")
        for name in ("results.csv", "summary.csv", "chosen.csv"):
            if (out / name).exists():
                self._client.log_artifact(made.info.run_id, str(out / name))
        self._client.set_terminated(made.info.run_id)
