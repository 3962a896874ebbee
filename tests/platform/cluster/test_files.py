"""The files for clusters elsewhere than on AWS, by the checks of the tools that read them, and what they give runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from ladder.platform.launching.nodes import declared_types, read_autoscaler
from tests.platform.launching.test_nodes import launched, paper_jobs, shape_in

FOLDER = Path(__file__).parents[3] / "platform" / "cluster"


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((FOLDER / name).read_text())
    return config


@pytest.mark.parametrize("name", ["gcp.yaml", "local.yaml"])
def test_ray_takes_the_file(name: str) -> None:
    config = prepare_config(read(name))
    validate_config(config)
    assert "RAY_AUTH_MODE=token" in config["head_start_ray_commands"][-1]
    assert config["setup_commands"][0].startswith("bash ~/ladder/setup.sh")


def test_google_can_launch_each_node() -> None:
    """By Google's own description of the call, which their client brings."""
    documents = pytest.importorskip("googleapiclient.discovery_cache.documents", reason="google-api-python-client")
    schemas = json.loads((Path(documents.__path__[0]) / "compute.v1.json").read_text())["schemas"]
    for words in read("gcp.yaml")["available_node_types"].values():
        node = dict(words["node_config"])
        # Ray takes a list of one where Google takes the thing itself.
        node["scheduling"] = node.get("scheduling", [{}])[0]
        assert_known(node, schemas["Instance"], schemas)


def assert_known(value: Any, schema: dict[str, Any], schemas: dict[str, Any]) -> None:
    schema = schemas[schema["$ref"]] if "$ref" in schema else schema
    if isinstance(value, dict):
        assert set(value) <= set(schema["properties"]), set(value) - set(schema["properties"])
        for name, part in value.items():
            assert_known(part, schema["properties"][name], schemas)
    elif isinstance(value, list):
        for part in value:
            assert_known(part, schema["items"], schemas)
    else:
        wanted = {"boolean": bool, "string": str, "integer": int}[schema["type"]]
        assert isinstance(value, (wanted, int if schema.get("format") == "int64" else wanted))
        assert "enum" not in schema or value in schema["enum"]


@pytest.fixture
def on_kubernetes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The cluster as Ray's own autoscaler reads it from the manifest."""
    monkeypatch.setenv("LADDER_CLUSTER", str(FOLDER / "kuberay.yaml"))
    config = read_autoscaler(6379)
    assert config is not None
    return config


def test_ray_takes_the_groups_of_the_manifest(on_kubernetes: dict[str, Any]) -> None:
    kinds = {kind.name: kind for kind in declared_types(on_kubernetes)}
    assert (kinds["h100-8"].gpus, kinds["h100-8"].accelerator, kinds["h100-8"].count) == (8, "H100", 4)
    assert kinds["headgroup"].cpus == 0 and kinds["cpu"].gpus == 0
    assert all(kind.labelled for name, kind in kinds.items() if name != "headgroup")
    assert all(words["min_workers"] == 0 for words in on_kubernetes["available_node_types"].values())


@pytest.mark.parametrize("file", ["gcp.yaml", "kuberay.yaml"])
@pytest.mark.parametrize(("size", "node"), [("117M", "l4"), ("345M", "l4_4"), ("762M", "l4_4"), ("1542M", "h100_8")])
def test_each_size_gets_the_smallest_nodes_that_hold_it(
    file: str, size: str, node: str, on_kubernetes: dict[str, Any]
) -> None:
    config = on_kubernetes if file == "kuberay.yaml" else read(file)
    nodes = launched(config, shape_in(config, paper_jobs()[size]))
    assert nodes == {node.replace("_", "-") if file == "kuberay.yaml" else node: 1}


def test_the_job_runs_on_the_cluster_of_the_manifest() -> None:
    cluster, job = read("kuberay.yaml"), read("kuberay-job.yaml")
    assert job["spec"]["clusterSelector"] == {"ray.io/cluster": cluster["metadata"]["name"]}
    assert cluster["spec"]["authOptions"] == {"mode": "token"}


def test_the_recipes_for_images_install_what_the_nodes_do() -> None:
    for name in ("Dockerfile", "aws-image.pkr.hcl"):
        assert "ladder/setup.sh aws" in (FOLDER / name).read_text()
