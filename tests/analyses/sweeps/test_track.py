"""Runs recorded on a real MLflow server."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from subbyte.analyses.sweeps import sweep
from subbyte.errors import SubbyteError
from subbyte.records.outcome import Failed
from tests.analyses.sweeps.place import Fake, command, metrics, space_of, table, write_space

# MLflow warns of much that is not ours
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def healthy(uri):
    try:
        return urllib.request.urlopen(f"{uri}/health", timeout=5).status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("mlflow")
    folder, uri = tmp_path_factory.mktemp("mlflow"), f"http://127.0.0.1:{(port := free_port())}"
    arguments = [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        f"{folder}/files",
    ]
    arguments += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *arguments],
            cwd=folder,
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    end = time.monotonic() + 240
    while not healthy(uri):
        if process.poll() is not None or time.monotonic() > end:
            process.kill()
            pytest.fail((folder / "log").read_text()[-2000:])
        time.sleep(0.5)
    yield uri
    process.terminate()
    process.wait(30)


def test_what_a_server_holds(server, folder, tmp_path):
    from mlflow import MlflowClient

    from subbyte.analyses.sweeps.track import MlflowTracker

    def outcome(run):
        if run.recipe.weights.bits == 3:
            return Failed(error="why")
        return metrics(10.0 * run.recipe.weights.bits + run.seed)

    space = space_of(folder, choose="quantized_top1_percent")
    sweep(space, tmp_path / "out", Fake(outcome), tracker=MlflowTracker(server, "mine"))
    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("mine").experiment_id
    found = {run.info.run_name: run for run in client.search_runs([experiment])}
    tables = found.pop("mine: tables")
    assert {path.path for path in client.list_artifacts(tables.info.run_id)} == {
        "results.csv",
        "summary.csv",
        "chosen.csv",
    }
    (tmp_path / "down").mkdir()
    for name in ("results.csv", "chosen.csv"):
        client.download_artifacts(tables.info.run_id, name, str(tmp_path / "down"))
        assert (tmp_path / "down" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    assert set(found) == {path.stem for path in (tmp_path / "out/runs").iterdir()}
    assert (
        sorted(run.data.params["split"] for run in found.values())
        == ["test"] * 2 + ["validation"] * 6
    )
    for run in found.values():
        bits, seed = run.data.params["weights.bits"], run.data.params["seed"]
        assert (
            run.data.params.items()
            >= {"calibration": "16", "recipe": "w4", "model": f"{folder}/net.py:net"}.items()
        )
        if bits == "3":
            assert (
                run.info.status == "FAILED"
                and run.data.tags["error"] == "why"
                and not run.data.metrics
            )
        else:
            assert run.info.status == "FINISHED"
            assert run.data.metrics["quantized_top1_percent"] == 10 * int(bits) + int(seed)
    sweep(space, tmp_path / "out", Fake(outcome), tracker=MlflowTracker(server, "mine"))
    names = [run.info.run_name for run in client.search_runs([experiment])]
    # what was there is not recorded again
    assert len(names) == 10 and names.count("mine: tables") == 2


def test_the_command(server, folder, tmp_path):
    from mlflow import MlflowClient

    path = write_space(folder, tmp_path / "by-command.yaml", seeds=[0])
    process = command("sweep", path, "--out", tmp_path / "out", "--track", f"mlflow:{server}")
    _, text = process.communicate(timeout=300)
    assert process.returncode == 0, text
    client = MlflowClient(tracking_uri=server)
    runs = client.search_runs([client.get_experiment_by_name("by-command").experiment_id])
    assert len(runs) == 4 and all(run.info.status == "FINISHED" for run in runs)


def test_a_server_that_is_not_there():
    pytest.importorskip("mlflow")
    from subbyte.analyses.sweeps.track import MlflowTracker

    start = time.monotonic()
    with pytest.raises(SubbyteError, match="the server does not answer"):
        MlflowTracker(f"http://127.0.0.1:{free_port()}", "mine")
    assert time.monotonic() - start < 60


def test_a_server_that_goes_away_does_not_stop_the_sweep(folder, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from subbyte.analyses.sweeps.track import MlflowTracker

    tracker = MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db", "mine")

    def gone(*_, **__):
        raise ConnectionError("gone")

    monkeypatch.setattr(tracker._client, "create_run", gone)
    with pytest.raises(
        SubbyteError, match=r"6 runs and the tables were not recorded \(gone\); all of it is in"
    ):
        sweep(space_of(folder), tmp_path / "out", Fake(), tracker=tracker)
    assert len(table(tmp_path / "out/results.csv")) == 6
