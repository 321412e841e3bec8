"""--users: who may do what, and whose grants are open."""

import json
import re

import pytest
from support.datagrams import KEY
from support.firewall import only_nft
from support.programs import program, run
from support.requests import key_text, request

KEYS = {name: f"{name}-{KEY}" for name in ("alice", "bob", "carol")} | {"zoe": key_text("zoe")}
LIMITS = {
    "zoe": "",
    "alice": "commands open\nttl 30m\naddresses 192.0.2.0/24 2001:db8::/32\nexpires 2099-01-31\n",
    "carol": "addresses source\n",
    "bob": "nft inet/pyknock/bob4\n",
}


@pytest.fixture
def keys(tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    for name, limits in LIMITS.items():
        path = folder / name
        path.write_text(f"{KEYS[name]}\n{limits}")
        path.chmod(0o600)
    return folder


@only_nft
def test_the_users_with_their_limits_and_what_is_open_for_each(firewall, start, status, keys, tmp_path):
    firewall.load_example()
    firewall.nft("add set inet pyknock bob4 { type ipv4_addr; flags timeout; }")
    firewall.nft("add element inet pyknock bob4 { 203.0.113.9 }")
    options = [f"--keys={keys}", f"--state={tmp_path}/state"]
    ours = start("--ttl=1h", *options, words=[])
    for name, address in (("alice", "192.0.2.7"), ("bob", "192.0.2.8")):
        ours.knock(address, key=KEYS[name])
    ours.send(request(KEYS["zoe"], "192.0.2.7"))
    ours.wait_for_counters(open=3)
    code, lines, errors = status(*options, firewall.sets, "--users")
    assert (code, errors) == (0, [])
    knocks = [line.split()[2:4] for line in lines[3:7]]
    assert [source for _, source in knocks] == ["127.0.0.1", "127.0.0.1", "-", "127.0.0.1"]
    assert lines[2] == "USER              VERSION  LAST KNOCK            FROM" + 37 * " " + "LIMITS"
    assert [line[:20] + line[90:] for line in lines[3:8]] == [
        "alice             1 commands open, ttl 1800, addresses 192.0.2.0/24, addresses 2001:db8::/32, "
        "expires 2099-02-01T00:00:00Z",
        "bob               1 a /32 in inet/pyknock/bob4, a /128 in no set",
        "carol             1 addresses source",
        "zoe               2 -",
        "",
    ]
    shown = {tuple(line.split()[column] for column in (0, 1, 4, 5)) for line in lines[9:]}
    assert shown == {
        ("192.0.2.7", "alice", "yes", "inet/pyknock/knock4"),
        ("192.0.2.7", "zoe", "yes", "inet/pyknock/knock4"),
        ("192.0.2.8", "bob", "yes", "inet/pyknock/bob4"),
        ("203.0.113.9", "-", "no", "inet/pyknock/bob4"),
    }
    code, listed, errors = status(*options, firewall.sets, "--users", "--json")
    assert (code, errors) == (0, [])
    alice = listed["users"][0]
    assert (alice.pop("last_knock"), alice.pop("from")) == tuple(knocks[0])
    assert (listed["users"][2]["last_knock"], listed["users"][2]["from"]) == (None, None)
    assert alice == {
        "name": "alice", "version": 1, "open": True, "close": False, "ttl": 1800, "source": False,
        "addresses": ["192.0.2.0/24", "2001:db8::/32"], "expires": "2099-02-01T00:00:00Z",
        "prefix4": 32, "set4": "inet/pyknock/knock4", "prefix6": 128, "set6": "inet/pyknock/knock6",
    }  # fmt: skip
    assert [(user["name"], user["version"]) for user in listed["users"]] == [
        ("alice", 1), ("bob", 1), ("carol", 1), ("zoe", 2),
    ]  # fmt: skip
    assert {item["user"] for item in listed["open"]} == {"alice", "zoe", "bob", None}
    # Not a part of any key.
    text = json.dumps(listed)
    assert not any(key[-12:] in text for key in KEYS.values())


@only_nft
@pytest.mark.parametrize("names", [[], sorted(LIMITS)], ids=["alone", "beside others"])
def test_the_user_of_a_key_file_has_no_name(start, status, firewall, keys, key_file, tmp_path, names):
    firewall.load_example()
    firewall.nft("add set inet pyknock bob4 { type ipv4_addr; flags timeout; }")
    conf = tmp_path / "server.conf"
    settings = [f"keys {keys}"] if names else []
    settings += [f"key-file {key_file}", f"state {tmp_path}/state", "nft inet/pyknock/knock4,knock6", "ttl 1h"]
    conf.write_text("\n".join(settings))
    ours = start("-f", str(conf), words=[], sets="-v")
    ours.knock()
    ours.wait_for_counters(open=1)
    code, lines, errors = status("-f", str(conf), "--users")
    assert (code, errors) == (0, [])
    assert re.fullmatch(r"-  +-  +20\S+Z +127\.0\.0\.1 +-", lines[3])
    assert [line.split()[0] for line in lines[4 : 5 + len(names)] if line] == names
    code, listed, errors = status("-f", str(conf), "--users", "--json")
    assert (code, errors) == (0, [])
    assert [user["name"] for user in listed["users"]] == [None, *names]
    assert listed["users"][0]["version"] is None
    assert (listed["users"][0]["from"], listed["users"][0]["set4"]) == ("127.0.0.1", "inet/pyknock/knock4")
    # The key is not read.
    key_file.unlink()
    assert status("-f", str(conf), "--users")[2] == []


def test_a_file_of_a_user_that_cannot_be_read_is_named(keys, tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    (keys / "bob").write_text(f"{KEYS['bob']}\nnonsense 1\n")
    (keys / "b\x1b[2J").write_text("x")
    words = [*program("status"), "--state", tmp_path / "state", "--keys", keys, "--users"]
    result = run(words)
    assert result.code == 1
    assert sum("bob" in line for line in result.lines) == 1
    assert "\x1b" not in result.stderr and KEY[-12:] not in result.stderr + result.stdout
    users = [line.split()[0] for line in result.stdout.splitlines()[3:6]]
    assert users == ["alice", "carol", "zoe"]
