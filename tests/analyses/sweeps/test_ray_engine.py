"""Runs on a real Ray cluster, of two nodes on this machine."""

import os
import shutil

import pytest

from subbyte.analyses.sweeps import Local, Ray, make_tasks
from subbyte.analyses.sweeps.ray_engine import SETTINGS
from tests.analyses.sweeps.place import command, space_of, table, without_times, write_space

# Ray warns of much that is not ours
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def up(start):
    """What `start` starts; Ray gives a node 30 s to come up, which a busy machine may miss."""
    for _ in range(2):
        try:
            return start()
        except Exception as error:
            why = error
    return pytest.skip(f"no Ray comes up on this machine: {why}")


@pytest.fixture
def cluster(monkeypatch):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    settings = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
    made = up(lambda: Cluster(initialize_head=True, head_node_args=settings))
    yield made
    made.shutdown()


def test_a_node_that_dies_loses_nothing(cluster, folder, tmp_path):
    """Two nodes without the user's files; one of them is killed while runs are under way."""
    second = up(lambda: cluster.add_node(num_cpus=1, object_store_memory=100 << 20))
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    models = [f"{here}/net.py:{name}" for name in ("Own", "broken")]
    space = space_of(
        here,
        grid={"model": models, "weights.bits": [2, 3, 4]},
        **{"except": [{"model": models[1], "weights.bits": [3, 4]}]},
    )
    tasks = make_tasks(space)
    expected = {
        task.key: without_times(outcome) for task, outcome in Local(1, tmp_path).outcomes(tasks)
    }
    shutil.rmtree(here)
    found = {}
    for task, outcome in Ray(cluster.address).outcomes(tasks):
        assert task.key not in found
        found[task.key] = without_times(outcome)
        if len(found) == 2:
            cluster.remove_node(second, allow_graceful=False)
    assert len(found) == len(tasks) == 8 and found == expected
    assert sorted(outcome["status"] for outcome in found.values()) == ["done"] * 6 + ["failed"] * 2


def test_a_ray_of_its_own(folder, tmp_path):
    """`--ray local`, whatever other cluster the environment names."""
    pytest.importorskip("ray")
    path = write_space(folder, tmp_path / "space.yaml", choose="agreement_percent", seeds=[0])
    os.environ["RAY_ADDRESS"] = "127.0.0.1:1"
    try:
        process = command("sweep", path, "--out", tmp_path / "out", "--ray", "local")
    finally:
        del os.environ["RAY_ADDRESS"]
    _, text = process.communicate(timeout=550)
    if "no cluster could be reached" in text:
        pytest.skip(text)
    assert process.returncode == 0, text
    assert [row["status"] for row in table(tmp_path / "out/results.csv")] == ["done"] * 3
    assert len(table(tmp_path / "out/chosen.csv")) == 1
