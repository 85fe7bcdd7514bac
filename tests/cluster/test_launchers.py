"""The units and the Kubernetes files: well-formed, and true to the command line as it is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess

import pytest

from imgserve.cli import COMMANDS
from imgserve.commands.exit_codes import UsageError
from imgserve.commands.flags import settings_from
from imgserve.commands.parser import parse
from tests.cluster.cluster import ROOT

UNITS = sorted((ROOT / "scripts/cluster/systemd").glob("*.service"))
KUBERNETES = ROOT / "scripts/cluster/kubernetes"
MANIFESTS = [KUBERNETES / f"{part}.yaml" for part in ("broker", "gateway", "worker")]


def settings_of(words):
    """Parse a command line with the real grammar and check its settings."""
    return settings_from(parse(COMMANDS[words[0]], words[1:]))


def exec_start(unit):
    """The words of a unit's command after `imgserve`."""
    line = re.search(r"^ExecStart=/usr/bin/env imgserve (.*)$", unit.read_text(), re.MULTILINE)
    return shlex.split(line.group(1))


def documents(path):
    """The documents of a manifest."""
    yaml = pytest.importorskip("yaml", reason="PyYAML comes with kubernetes-validate")
    return list(yaml.safe_load_all(path.read_text()))


def pods():
    """Every pod template: (kind and name, its spec)."""
    for path in MANIFESTS:
        for each in documents(path):
            if "template" in each.get("spec", {}):
                yield each["metadata"]["name"], each["spec"]["template"]["spec"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is missing")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_units(unit):
    """`systemd-analyze verify` has nothing to say."""
    words = ["systemd-analyze", "verify", "--man=no", unit]
    ended = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in ended.stderr.splitlines() if unit.name in line]
    assert (ended.returncode, said) == (0, [])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_units_wait_for_the_drain(unit):
    """A unit's command is understood, and its stop timeout is over the part's own drain time."""
    settings = settings_of(exec_start(unit))
    stop_s = int(re.search(r"^TimeoutStopSec=(\d+)$", unit.read_text(), re.MULTILINE).group(1))
    part = exec_start(unit)[0]
    assert stop_s > (settings.answer_timeout_s if part == "gateway" else settings.drain_timeout_s)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes_takes_the_manifests(path):
    """Every document is valid by the published schema of its kind."""
    validate = pytest.importorskip(
        "kubernetes_validate", reason="kubernetes-validate is not installed"
    )
    for each in documents(path):
        validate.validate(each, validate.latest_version(), strict=True)


def test_the_grace_period_is_longer_than_the_drain():
    """Each pod's arguments are understood, and Kubernetes waits longer than it drains."""
    seen = {}
    for name, pod in pods():
        [container] = pod["containers"]
        settings = settings_of(container["args"])
        part = container["args"][0]
        drain_s = settings.answer_timeout_s if part == "gateway" else settings.drain_timeout_s
        seen[part] = pod["terminationGracePeriodSeconds"] - drain_s
        assert seen[part] > 5, name
        assert settings.state_dir.as_posix() in {
            mount["mountPath"] for mount in container["volumeMounts"]
        }
    assert set(seen) == {"broker", "gateway", "worker"}


def test_pods_are_locked():
    """No pod runs as root, writes to its root or has a capability."""
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            locked = container["securityContext"]
            assert not locked["allowPrivilegeEscalation"], name
            assert locked["readOnlyRootFilesystem"], name
            assert locked["capabilities"] == {"drop": ["ALL"]}, name


def test_services_reach_what_the_parts_listen_on():
    """The ports of the broker's Service are those that its connection file names."""
    broker = documents(MANIFESTS[0])[0]
    ports = [port["port"] for port in broker["spec"]["ports"]]
    [args] = [pod["containers"][0]["args"] for name, pod in pods() if name == "imgserve-broker"]
    settings = settings_of(args)
    assert ports == [settings.broker_port + offset for offset in range(3)]
    assert settings.advertise == broker["metadata"]["name"]


def test_the_autoscaler_asks_for_what_the_gateway_says():
    """KEDA's URL is the gateway's Service, and the value it takes is in the answer."""
    [scaled] = documents(KUBERNETES / "keda.yaml")
    [trigger] = scaled["spec"]["triggers"]
    assert trigger["metadata"]["url"] == "http://imgserve.imgserve.svc/queue"
    assert trigger["metadata"]["valueLocation"] == "total"
    assert scaled["spec"]["scaleTargetRef"]["name"] in dict(pods())


def test_the_batch_script_is_understood(tmp_path):
    """`slurm --print` shows a script whose worker has flags that exist, and drains in time."""
    script = ROOT / "scripts/cluster/slurm"
    words = [script, "--print", tmp_path / "connection.json", "3", "60", "--", "--tags", "a,b"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert "#SBATCH --array=1-3" in text
    notice_s = int(re.search(r"--signal=B:TERM@(\d+)", text).group(1))
    settings = settings_of(shlex.split(text.splitlines()[-1])[2:])
    assert settings.tags == ("a", "b")
    assert settings.drain_timeout_s < notice_s


def test_the_batch_script_refuses_what_is_no_number(tmp_path):
    """A slip in the command line is told with the usage, and nothing is submitted."""
    words = [ROOT / "scripts/cluster/slurm", "--print", tmp_path / "connection.json", "many"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, "many is no number" in ended.stderr) == (64, True)


def test_a_flag_that_does_not_exist_would_be_noticed():
    """The check above rests on a grammar that refuses unknown flags."""
    with pytest.raises(UsageError, match="no-such-flag"):
        settings_of(["worker", "--no-such-flag"])
