"""cluster.yaml against Ray's and Amazon's own checks, and the account's stack against the calls that Ray makes."""

import fnmatch
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import boto3
import botocore.client
import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from cfnlint.api import lint_file
from moto import mock_aws
from ray.autoscaler._private import commands
from ray.autoscaler._private.aws import config as ray_aws
from ray.autoscaler._private.aws import utils
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import hash_runtime_conf, prepare_config, validate_config

ROOT = Path(__file__).parents[3]
ACCOUNT = ROOT / "platform" / "cluster" / "aws-account.yaml"
FROM = "203.0.113.7/32"

NOT_CALLS = {"iam:PassRole", "ssm:GetParameters", "iam:CreateServiceLinkedRole"}
"""Rights that EC2 asks for within a launch, in the name of who launches: no calls of their own."""


def read_cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    return config


def test_cluster_yaml_is_what_ray_expects() -> None:
    validate_config(prepare_config(read_cluster()))


def test_each_node_is_one_that_ec2_can_launch() -> None:
    """Names and types of the launch's parameters, by Amazon's own model of the call, which Ray's schema leaves out."""
    launch = botocore.session.get_session().get_service_model("ec2").operation_model("RunInstances").input_shape
    for name, words in read_cluster()["available_node_types"].items():
        parameters = {**words["node_config"], "MinCount": 1, "MaxCount": 1}
        assert not ParamValidator().validate(parameters, launch).has_errors(), name
        assert words["node_config"]["MetadataOptions"]["HttpTokens"] == "required"


def test_the_cluster_shrinks_to_a_head_that_trains_nothing_and_has_on_demand_for_each_spot_gpu() -> None:
    types = read_cluster()["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert all(words["min_workers"] == 0 for words in types.values())
    for name in ("a10g", "l40s_4", "h100_8"):
        spot, full = types[name], types[f"{name}_on_demand"]
        assert spot["node_config"].pop("InstanceMarketOptions") == {"MarketType": "spot"}
        assert spot["node_config"] == full["node_config"] and spot["resources"] == full["resources"]
        assert spot["priority"] > full["priority"]


def test_work_in_the_checkout_does_not_change_what_ray_mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another hash would run the set-up and `ray stop` on a head in use."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("build/cluster/ladder.whl", "home/.ray/auth_token", "home/.mlflow/credentials", ".git/index"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("built")
    mounts = read_cluster()["file_mounts"]

    def hashed() -> str:
        local = {remote: str(Path(path).expanduser()) for remote, path in mounts.items()}
        return str(hash_runtime_conf(local, None, {"once": mounts}, generate_file_mounts_contents_hash=True))

    before = hashed()
    for name in (".git/index", "storage/mlflow.db", ".venv/bin/python", "platform/launching/sweep.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("changed")
    assert hashed() == before
    (tmp_path / "build/cluster/ladder.whl").write_text("built again")
    assert hashed() != before, "this is what the nodes are set up from"


def test_no_port_is_open_to_the_world() -> None:
    start = " ".join(read_cluster()["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start and "RAY_AUTH_MODE=token" in start
    assert all("RAY_AUTH_MODE=token" in c for c in read_cluster()["worker_start_ray_commands"] if "ray start" in c)
    with mock_aws():
        make_account()
        group = boto3.client("ec2", "us-east-1").describe_security_groups(GroupNames=["ladder"])["SecurityGroups"][0]
    assert sorted(
        (
            rule["IpProtocol"],
            rule.get("FromPort"),
            [r["CidrIp"] for r in rule["IpRanges"]],
            bool(rule["UserIdGroupPairs"]),
        )
        for rule in group["IpPermissions"]
    ) == [("-1", None, [], True), ("tcp", 22, [FROM], False)]


def test_the_account_is_one_that_cloudformation_can_make() -> None:
    assert lint_file(ACCOUNT) == []


def make_account() -> None:
    boto3.client("cloudformation", "us-east-1").create_stack(
        StackName="ladder",
        TemplateBody=ACCOUNT.read_text(),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        Parameters=[
            {"ParameterKey": "Bucket", "ParameterValue": "ladder-test"},
            {"ParameterKey": "SshFrom", "ParameterValue": FROM},
        ],
    )


def allowed(policy: str) -> set[str]:
    """The actions that a policy of the account allows."""
    iam = boto3.client("iam", "us-east-1")
    found = next(p for p in iam.list_policies(Scope="Local")["Policies"] if p["PolicyName"] == policy)
    version = iam.get_policy_version(PolicyArn=found["Arn"], VersionId=found["DefaultVersionId"])
    statements = version["PolicyVersion"]["Document"]["Statement"]
    lists = [s["Action"] if isinstance(s["Action"], list) else [s["Action"]] for s in statements]
    return {action for actions in lists for action in actions}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The calls of AWS that are made, as a policy names them."""
    made: set[str] = set()
    plain = botocore.client.BaseClient._make_api_call

    def noted(client: Any, operation: str, parameters: Any) -> Any:
        made.add(f"{client.meta.service_model.service_name}:{operation}")
        return plain(client, operation, parameters)

    monkeypatch.setattr(botocore.client.BaseClient, "_make_api_call", noted)
    yield made


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An AWS account with the stack, simulated; a home and a checkout with what `make cluster` builds."""
    for name in ("build/cluster/ladder.whl", ".ray/auth_token", ".mlflow/credentials"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("built")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    caches: list[Callable[..., Any]] = [utils.resource_cache, utils.client_cache, ray_aws._get_subnets_or_die]
    with mock_aws():
        make_account()
        for cache in caches:
            cache.cache_clear()  # type: ignore[attr-defined]
        yield
    for cache in caches:
        cache.cache_clear()  # type: ignore[attr-defined]


class NoShell:
    """In place of what reaches a node by ssh and sets it up."""

    exitcode = 0

    def __init__(self, *_: Any, **__: Any) -> None:
        self.cmd_runner = SimpleNamespace(run_rsync_up=lambda *a, **k: None, remote_shell_command_str=lambda: "ssh")

    def start(self) -> None:
        pass

    join = start


def test_the_policies_allow_the_calls_that_ray_makes_and_little_else(account: None, calls: set[str]) -> None:
    file = str(ROOT / "cluster.yaml")
    with mock.patch.object(commands, "NodeUpdaterThread", NoShell), mock.patch.object(commands, "exec_cluster"):
        config = commands.create_or_update_cluster(
            file, None, None, no_restart=False, restart_only=False, yes=True, no_config_cache=True
        )
        up = set(calls)
        calls.clear()
        scale(config)
        scaled = set(calls)
        calls.clear()
        commands.teardown_cluster(
            file, yes=True, workers_only=False, override_cluster_name=None, keep_min_workers=False
        )
        down = set(calls)
    calls.clear()
    ec2 = boto3.client("ec2", "us-east-1")
    states = [i["State"]["Name"] for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    assert states == ["terminated"] * 3
    assert "ec2:RunInstances" in up & scaled and "ec2:TerminateInstances" in scaled & down

    head, user = allowed("ladder-scale"), allowed("ladder-scale") | allowed("ladder-set-up")
    assert scaled <= head, f"the head may not {scaled - head}"
    assert up | down <= user, f"who calls ray up may not {(up | down) - user}"
    assert head - scaled == NOT_CALLS & head, "the head has rights that it does not use"
    assert user - up - down - scaled == NOT_CALLS, "who calls ray up has rights that they do not use"
    assert not any(fnmatch.fnmatch(action, "*[*]*") for action in head | user | allowed("ladder-bucket"))


def scale(config: dict[str, Any]) -> None:
    """Two nodes up and down again, as the head's autoscaler does it."""
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name in ("a10g", "a10g_on_demand"):
        words = config["available_node_types"][name]
        tags = {"ray-node-type": "worker", "ray-user-node-type": name, "ray-node-name": "ray-ladder-worker"}
        provider.create_node_with_resources_and_labels(
            words["node_config"], tags, 1, words["resources"], words["labels"]
        )
    nodes = provider.non_terminated_nodes({"ray-node-type": "worker"})
    assert len(nodes) == 2
    for node in nodes:
        provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
        assert provider.is_running(node) and provider.internal_ip(node)
    provider.terminate_nodes(nodes)
    assert provider.non_terminated_nodes({"ray-node-type": "worker"}) == []


def test_the_head_may_do_what_a_profile_of_its_own_takes_from_ray(account: None) -> None:
    """With a profile named in the file Ray makes no role: this one has to start workers."""
    profiles = {name: words["node_config"]["IamInstanceProfile"]["Name"]
                for name, words in read_cluster()["available_node_types"].items()}  # fmt: skip
    iam = boto3.client("iam", "us-east-1")

    def policies(profile: str) -> list[str]:
        role = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"][0]["RoleName"]
        attached = iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        return sorted(policy["PolicyName"] for policy in attached)

    assert policies(profiles.pop("head")) == ["ladder-bucket", "ladder-scale"]
    assert {tuple(policies(profile)) for profile in profiles.values()} == {("ladder-bucket",)}
