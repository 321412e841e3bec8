"""--metrics: the counters in a file, as Prometheus reads them."""

import os
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.datagrams import CLOSE, KEY, packet
from support.processes import NOBODY
from support.programs import program, run
from support.waiting import until


def samples(path):
    """The values by name and label, as an independent parser finds them."""
    values = {}
    for family in text_string_to_metric_families(path.read_text()):
        assert family.documentation
        for sample in family.samples:
            label = "".join(f"{{{value}}}" for value in sample.labels.values())
            values[sample.name + label] = sample.value
    return values


def test_all_counters_are_in_the_file(server, tmp_path):
    path = tmp_path / "pyknock.prom"
    ours = server("--metrics", str(path), on_open="exit 0", on_close="exit 1")
    until(path.exists, "the file is there")
    first = samples(path)
    assert first["pyknock_accepted_total"] == 0
    counters = ours.counters()
    labelled = {name for name in first if "{" in name}
    # The others are the clock skew and two times.
    assert len(first) == len(counters) + 3
    for name in counters:
        plain = "pyknock_" + name.replace("-", "_")
        assert (
            plain in first or plain + "_total" in first
            or f"pyknock_refused_total{{{name}}}" in labelled
            or f"pyknock_commands_total{{{name}}}" in labelled
        ), name  # fmt: skip
    ours.knock("192.0.2.1")
    ours.knock("192.0.2.2", CLOSE, age=-20)
    ours.send(packet("192.0.2.1")[:-1] + b"x")
    ours.wait_for_counters(accepted=2, bad_mac=1, succeeded=1, failed=1)
    assert samples(path) == first, "it was written again within 15 seconds"
    assert ours.stop() == 0
    # The file is written once more at the end.
    last = samples(path)
    assert last["pyknock_accepted_total"] == 2
    assert last["pyknock_refused_total{bad-mac}"] == 1
    assert last["pyknock_user_accepted_total{}"] == 2
    assert last["pyknock_user_refused_total{}"] == 0
    assert last["pyknock_commands_total{failed}"] == last["pyknock_commands_total{succeeded}"] == 1
    assert 19 < last["pyknock_clock_skew_seconds"] <= 20.1
    assert os.listdir(tmp_path) == ["pyknock.prom"]
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.slow
def test_the_last_round_moves_and_the_start_time_does_not(server, tmp_path):
    """So a dead server can be told from an idle one."""
    path = tmp_path / "pyknock.prom"
    before = int(time.time())
    ours = server("--metrics", str(path))
    until(path.exists, "the file is there")
    first = samples(path)
    for name in ("pyknock_start_time_seconds", "pyknock_last_round_time_seconds"):
        assert before <= first[name] <= time.time()
    time.sleep(1.1)
    ours.knock()
    ours.wait_for_counters(accepted=1)
    assert ours.stop() == 0
    last = samples(path)
    assert last["pyknock_start_time_seconds"] == first["pyknock_start_time_seconds"]
    assert last["pyknock_last_round_time_seconds"] > first["pyknock_last_round_time_seconds"]


def test_no_time_stamp_spoils_the_file(server, tmp_path):
    path = tmp_path / "pyknock.prom"
    ours = server("--metrics", str(path))
    for stamp in (float("nan"), float("inf"), -1e308):
        ours.knock(time_stamp=stamp)
    ours.wait_for_counters(stale=1, time_not_finite=2)
    ours.stop()
    assert samples(path)["pyknock_clock_skew_seconds"] == 0


def test_a_file_cannot_be_made_is_told_once(server, tmp_path):
    path = tmp_path / "folder" / "pyknock.prom"
    result = run([*program("server"), "--metrics", str(path), KEY, "exit", "exit"])
    assert result.code == 1
    assert result.lines[-1] == f"pyknock server: --metrics '{path}': No such file or directory"
    path.mkdir(parents=True)
    ours = server("--metrics", str(path))
    ours.log.wait_for(f"^pyknock server: --metrics '{path}': Is a directory$")
    ours.knock()
    ours.output.wait_for("^open")
    ours.stop()
    assert len(ours.log.matching("--metrics")) == 1


def test_the_check_looks_at_its_directory(tmp_path):
    for path, why in {
        tmp_path / "none" / "m.prom": "No such file or directory",
        "/proc/m.prom": "Permission denied",
    }.items():
        if os.access(os.path.dirname(path), os.W_OK):
            continue
        result = run([*program("server"), "-n", "--metrics", str(path), KEY, "exit", "exit"])
        assert (result.code, result.stdout) == (1, "")
        assert result.lines[-1] == f"pyknock server: --metrics '{path}': {why}"
    for path in ("", "/", f"{tmp_path}/"):
        result = run([*program("server"), "-k", "-", "--metrics", path, "exit", "exit"])
        assert result.lines[0] == f"pyknock server: --metrics: '{path}' is not a file"


def test_a_replay_does_not_change_the_clock_skew(server, tmp_path):
    path = tmp_path / "m.prom"
    ours = server("--metrics", str(path))
    old = ours.knock(age=30)
    ours.knock("192.0.2.2", age=-10)
    ours.send(old)
    ours.wait_for_counters(accepted=2, replayed=1)
    ours.stop()
    assert 9 < samples(path)["pyknock_clock_skew_seconds"] < 10.2


@pytest.mark.parametrize("path", ["pipe", "link", "/dev/null"])
def test_what_is_no_file_is_not_replaced(tmp_path, path):
    """As root, it would otherwise take /dev/null from all programs. So only a check gets that path."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    words = [*program("server"), "-n", "-k", "-", "--metrics", path, "exit", "exit"]
    result = run(words, cwd=tmp_path)
    assert (result.code, result.lines[0]) == (2, f"pyknock server: --metrics: '{path}' is not a file")


def test_a_link_in_its_place_is_replaced_not_followed(server, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    folder = tmp_path / "metrics"
    folder.mkdir()
    for name in ("m.prom", "m.prom.tmp"):
        (folder / name).symlink_to(victim)
    ours = server("--metrics", str(folder / "m.prom"))
    until(lambda: not (folder / "m.prom").is_symlink(), "the file is there")
    ours.stop()
    assert victim.read_text() == "precious"
    assert os.listdir(folder) == ["m.prom"]


@pytest.mark.other_users
def test_a_user_and_another_root_directory_do_not_keep_the_file_from_being_written(
    start, firewall, tmp_path, kind
):
    firewall.load_example()
    (tmp_path / "root").mkdir()
    (tmp_path / "metrics").mkdir()
    os.chown(tmp_path / "metrics", NOBODY, NOBODY)
    path = tmp_path / "metrics" / "m.prom"
    ours = start("--metrics", str(path), f"--user={NOBODY}", "--chroot", str(tmp_path / "root"))
    until(path.exists, "the file is there")
    assert path.stat().st_uid == NOBODY
    assert ours.stop() == 0


@pytest.mark.other_users
def test_the_directory_gives_the_file_to_the_group_of_the_collector(server, tmp_path):
    path = tmp_path / "metrics" / "m.prom"
    path.parent.mkdir()
    os.chown(path.parent, -1, NOBODY)
    path.parent.chmod(0o2750)
    ours = server("--metrics", str(path))
    until(path.exists, "the file is there")
    assert (path.stat().st_gid, path.stat().st_mode & 0o7777) == (NOBODY, 0o640)
    ours.stop()


def test_relative_paths(server, tmp_path):
    ours = server("--metrics", "m.prom", cwd=tmp_path)
    until((tmp_path / "m.prom").exists, "the file is there")
    ours.stop()
