"""packaging/compose.yaml and packaging/kubernetes.yaml: checked by their schemas, and run.

docker-compose runs its file as it is, through podman's imitation of docker's interface. The pod of
the DaemonSet is run by podman, and what only a kubelet could do is done by the test.
"""

import copy
import json
import os
import re
import shlex
import subprocess
import time

import pytest
import yaml
from containers import (
    IN_INSIDE,
    INSIDE,
    OUTSIDE_ADDRESS,
    PODMAN,
    PYKNOCK,
    ROOT,
    call,
    connects,
    knock,
    make_image,
    podman,
    wait_for_log,
    wait_until,
)  # fmt: skip

COMPOSE = ROOT / "packaging/compose.yaml"
KUBERNETES = ROOT / "packaging/kubernetes.yaml"
FLEET = ROOT / "doc/FLEET.md"
CONTAINER_DOCUMENT = ROOT / "doc/CONTAINER.md"
VALIDATE = ROOT / ".build/venv/bin/kubernetes-validate"
# Makes INSIDE the network of the host for containers that podman starts. `ip netns exec` would also make a
# new mount namespace.
ON_HOST = ["nsenter", f"--net=/run/netns/{INSIDE}"]
CONTAINER = "pyknock-test-compose"


def compose_service():
    return yaml.safe_load(COMPOSE.read_text())["services"]["pyknock"]


def daemon_set():
    return yaml.safe_load(KUBERNETES.read_text())


def compose_errors(path):
    """The complaints of docker-compose about a file."""
    completed = call("docker-compose", f"--file={path}", "config", "--quiet", check=False)
    assert (completed.returncode == 0) == (completed.stdout == "")
    return completed.stdout


def kubernetes_errors(path, version):
    """The complaints of the schema of this version about a file. Unknown keys are errors."""
    options = ["--strict", f"--kubernetes-version={version}"]
    completed = call(VALIDATE, *options, path, check=False)
    good = f"INFO {path} passed for resource daemonset/pyknock-node1 against version {version}\n"
    assert (completed.returncode == 0) == (completed.stdout == good)
    return completed.stdout.replace(good, "")


def test_compose_yaml_is_as_its_schema_says():
    assert compose_errors(COMPOSE) == ""


@pytest.mark.parametrize("version", ["1.25", "1.37"])
def test_kubernetes_yaml_is_as_the_schemas_say(version):
    assert kubernetes_errors(KUBERNETES, version) == ""


def test_the_schemas_find_a_wrong_key(tmp_path):
    for path in (COMPOSE, KUBERNETES):
        content = path.read_text()
        assert len(re.findall("read_only:|readOnlyRootFilesystem:", content)) == 1
        wrong = re.sub("read_only:|readOnlyRootFilesystem:", "readonly:", content)
        (tmp_path / path.name).write_text(wrong)
    assert "Unsupported config option for services.pyknock: 'readonly'" in compose_errors(
        tmp_path / COMPOSE.name
    )
    assert "('readonly' was unexpected)" in kubernetes_errors(tmp_path / KUBERNETES.name, "1.37")


def test_kubernetes_yaml_names_a_node_that_sed_can_replace():
    text = KUBERNETES.read_text()
    assert len(re.findall(r"\bnode1\b", text)) == 6
    assert "node1" not in text.replace("node1", "a.b-c")


def test_both_check_what_they_run():
    """The health check has the arguments of the server, and the pods have the labels of the selector."""
    _, *arguments = compose_service()["command"]
    test = compose_service()["healthcheck"]["test"]
    assert test == ["CMD", "/pyknock", "server", "--check", *arguments]

    template = daemon_set()["spec"]["template"]
    [container] = template["spec"]["containers"]
    _, *arguments = container["args"]
    probe = container["readinessProbe"]["exec"]["command"]
    assert probe == ["/pyknock", "server", "--check", *arguments]
    assert template["metadata"]["labels"] == daemon_set()["spec"]["selector"]["matchLabels"]


@pytest.fixture
def rules(service):
    """The rules of the example hide SSH."""
    call(*IN_INSIDE, "nft", "-f", "-", input=call(PYKNOCK, "server", "--example", "nft").stdout)


@pytest.fixture
def docker(networks, tmp_path):
    """podman in place of docker on the host. Returns the environment for its clients."""
    socket, log = tmp_path / "docker.sock", tmp_path / "docker.log"
    words = [*ON_HOST, *PODMAN, "system", "service", "--time=0", f"unix://{socket}"]
    with log.open("w") as file, subprocess.Popen(words, stdout=file, stderr=file) as process:
        try:
            wait_until(socket.is_socket)
            yield {**os.environ, "DOCKER_HOST": f"unix://{socket}"}
        finally:
            process.terminate()


@pytest.fixture
def compose(docker, image, keys, tmp_path):
    """Runs docker-compose with the file, and with users, an image and names of the test."""
    service = {"image": image, "container_name": CONTAINER, "volumes": [f"{keys}:/keys:ro"]}
    ours = {
        "services": {"pyknock": service},
        "volumes": {"state": {"name": "pyknock-test-state"}},
    }
    (tmp_path / "ours.yaml").write_text(json.dumps(ours))

    files = [f"--file={COMPOSE}", f"--file={tmp_path}/ours.yaml"]
    command = ["docker-compose", "--project-name=pyknock-test", *files]

    def run(*words):
        return call(*command, *words, env=docker)

    # A stand-in for the docker command: it runs docker-compose or podman.
    shim = tmp_path / "bin/docker"
    shim.parent.mkdir()
    shim.write_text(
        f"#!/bin/sh\n[ $1 != compose ] || {{ shift 3; exec {shlex.join(command)} \"$@\"; }}\n"
        f"exec {shlex.join(PODMAN)} \"$@\"\n"
    )
    shim.chmod(0o755)
    run.environment = {**docker, "PATH": f"{shim.parent}:{os.environ['PATH']}"}

    run("down", "--volumes")
    yield run
    run("down", "--volumes")


@pytest.fixture
def secret(tmp_path):
    """A volume with these files as the kubelet makes it: each is a link to a directory that it can replace."""

    def make(keys):
        folder = tmp_path / "secret"
        made = folder / "..2026_11_26_10_00_00.1"
        made.mkdir(parents=True)
        folder.chmod(0o1777)
        (folder / "..data").symlink_to(made.name)
        for path in keys:
            (made / path.name).write_text(path.read_text())
            (made / path.name).chmod(0o400)
            (folder / path.name).symlink_to(f"..data/{path.name}")
        return folder

    return make


@pytest.fixture
def pod(networks, image, tmp_path):
    """Runs the pod of the DaemonSet with this volume of a Secret."""
    name = "pyknock-test-pod"
    podman("pod", "rm", "--force", name, check=False)

    def run(volume):
        template = copy.deepcopy(daemon_set()["spec"]["template"])
        [container], volumes = template["spec"]["containers"], template["spec"]["volumes"]
        # The test has its own image and state directory.
        container["image"] = f"localhost/{image}"
        assert volumes[1]["hostPath"] == {"path": "/var/lib/pyknock", "type": "DirectoryOrCreate"}
        volumes[1]["hostPath"]["path"] = str(tmp_path / "state")
        assert volumes[0].pop("secret") == {"secretName": "pyknock-node1", "defaultMode": 0o400}
        volumes[0]["hostPath"] = {"path": str(volume)}
        (tmp_path / "pod.json").write_text(
            json.dumps({"apiVersion": "v1", "kind": "Pod", **template, "metadata": {"name": name}})
        )
        call(*ON_HOST, *PODMAN, "kube", "play", "--replace", tmp_path / "pod.json")
        return f"{name}-{container['name']}"

    yield run
    podman("pod", "rm", "--force", name)


def assert_confined(name):
    """The runtime gets: user root, one capability, and nothing writable except the state."""
    path = podman("inspect", "--format={{.OCIConfigPath}}", name).stdout.strip()
    with open(path) as file:
        told = json.load(file)
    assert told["process"]["user"]["uid"] == 0
    capabilities = told["process"]["capabilities"]
    for kind in ("bounding", "effective", "permitted"):
        assert capabilities[kind] == ["CAP_NET_ADMIN"]
    assert told["process"]["noNewPrivileges"]
    assert told["root"]["readonly"]
    assert told["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO"
    assert told["linux"]["resources"]["memory"]["limit"] == 32 << 20
    binds = (mount for mount in told["mounts"] if mount["type"] == "bind")
    writable = {mount["destination"] for mount in binds if "ro" not in mount["options"]}
    assert writable == {"/dev/shm", "/state"}


def assert_gate(name, key, check):
    """A knock from outside opens. The health check fails when the table is gone."""
    wait_for_log(name, "listening on")
    assert "warning" not in podman("logs", name).stdout
    assert_confined(name)
    assert not connects()
    knock("open", key)
    wait_for_log(name, f"^pyknock server: accepted open {OUTSIDE_ADDRESS} by alice ")
    wait_until(connects)

    healthy = check()
    assert healthy.returncode == 0, healthy.stdout
    call(*IN_INSIDE, "nft", "delete", "table", "inet", "pyknock")
    assert check().returncode == 1


def test_compose_yaml_is_a_gate(compose, rules, keys):
    compose("up", "--detach")
    # podman runs the health check that docker-compose passed on.
    check = [*ON_HOST, *PODMAN, "healthcheck", "run", CONTAINER]
    assert_gate(CONTAINER, keys / "alice", lambda: call(*check, check=False))
    configuration = json.loads(podman("inspect", "--format={{json .HostConfig}}", CONTAINER).stdout)
    assert configuration["PidsLimit"] == 32
    assert configuration["LogConfig"]["Size"] == "1MB"
    assert configuration["RestartPolicy"]["Name"] == "unless-stopped"


def test_the_commands_of_the_document_take_minutes_to_the_first_knock(
    compose, service, image, keys, tmp_path, capsys
):
    [commands] = re.findall("```sh\n(.*?)```", CONTAINER_DOCUMENT.read_text(), re.DOTALL)
    commands = commands.replace("/etc/pyknock", str(tmp_path)).replace(" pyknock ", f" {image} ")
    (keys / "alice").unlink()
    podman("rmi", "--force", image)
    start = time.monotonic()
    make_image()
    call(*ON_HOST, "sh", "-exc", commands, cwd=tmp_path, env=compose.environment)
    wait_for_log(CONTAINER, "listening on")
    assert not connects()
    knock("open", keys / "alice")
    wait_until(connects)
    seconds = time.monotonic() - start
    with capsys.disabled():
        print(f"\nThe container of doc/CONTAINER.md, from the file to the first knock: {seconds:.1f} s")
    assert seconds < 300


def test_with_compose_yaml_users_come_and_go(compose, rules, keys):
    (keys / "alice").unlink()
    compose("up", "--detach")
    wait_for_log(CONTAINER, "^pyknock server: warning: '/keys' has no users, so nobody can knock$")
    call(PYKNOCK, "keygen", "--keys", keys, "bob")
    hang_up = [*PODMAN, "kill", "--signal=HUP", CONTAINER]
    call(*hang_up)
    wait_for_log(CONTAINER, "^pyknock server: reloaded users and commands, users: 1$")
    knock("open", keys / "bob")
    wait_until(connects)


def test_with_compose_yaml_no_restart_forgets_a_knock(compose, rules, keys):
    compose("up", "--detach")
    wait_for_log(CONTAINER, "listening on")
    knock("open", keys / "alice")
    wait_for_log(CONTAINER, f"^pyknock server: accepted open {OUTSIDE_ADDRESS} ")
    compose("down")
    compose("up", "--detach")
    wait_for_log(CONTAINER, "^pyknock server: 1 knocks remembered$")


def test_kubernetes_yaml_is_a_gate(pod, rules, keys, secret, tmp_path):
    name = pod(secret(keys.iterdir()))
    [container] = daemon_set()["spec"]["template"]["spec"]["containers"]
    probe = container["readinessProbe"]["exec"]["command"]
    assert_gate(name, keys / "alice", lambda: call(*ON_HOST, *PODMAN, "exec", name, *probe, check=False))
    assert (tmp_path / "state/replay").exists()


def test_the_rules_for_nodes_hide_node_ports(pod, service, keys, secret):
    """The rules of doc/FLEET.md. A second table stands for kube-proxy."""
    [rules] = re.findall(r"```nft\n(.*?)```", FLEET.read_text(), re.DOTALL)
    kube_proxy = """
        table ip kube-proxy {
          chain prerouting {
            type nat hook prerouting priority dstnat
            tcp dport 30080 redirect to :8080
          }
        }"""
    call(*IN_INSIDE, "nft", "-f", "-", input=kube_proxy)
    assert connects(22) and connects(30080)
    call(*IN_INSIDE, "nft", "-f", "-", input=rules)
    table = [*IN_INSIDE, "nft", "list", "table", "inet", "pyknock"]
    loaded = call(*table).stdout
    call(*IN_INSIDE, "nft", "-f", "-", input=rules)
    assert call(*table).stdout == loaded
    key = keys / "alice"
    wait_for_log(pod(secret([key])), "listening on")
    assert not connects(22) and not connects(30080)
    # A flood of knocks must not fill the table of connections.
    count = [*IN_INSIDE, "cat", "/proc/sys/net/netfilter/nf_conntrack_count"]
    before = int(call(*count).stdout)
    for _ in range(20):
        knock("close", key)
    assert int(call(*count).stdout) <= before
    knock("open", key)
    wait_until(lambda: connects(30080))
    assert connects(22)
