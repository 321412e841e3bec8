"""The file of a user: what each line may say, and what the server says about mistakes in it."""

import datetime
import re

import pytest
from support.datagrams import CLOSE, OPEN
from support.firewall import NFT, only_ipset, only_nft
from support.programs import program, run

KEY = "a-key-of-alice-that-nobody-can-guess-at-all"
HIDDEN = "the value (not shown, it may be the key)"
TIMED = ["--close-after=1h"]


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "keys"
    path.mkdir(mode=0o750)
    return path


def write(keys, text, name="alice"):
    path = keys / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(0o640)
    return path


def check(keys, *options, commands=("true $ip", "true $ip"), prefix=()):
    """Has the server check the files."""
    words = [*prefix, *program("server"), "-n", "--keys", keys, "--state", keys.parent / "state", *options]
    return run([*words, *commands])


def fault(keys, text, *options, **more):
    """What the server says of a file of alice."""
    path = write(keys, text)
    result = check(keys, *options, **more)
    assert (result.code, result.stdout) == (1, ""), result
    line, count = [line.removeprefix("pyknock server: ") for line in result.lines]
    assert count == f"--keys: '{keys}': errors: 1"
    assert KEY not in result.stderr
    assert line.startswith(f"'{path}'")
    return line.removeprefix(f"'{path}'")


def assert_good(keys, text, *options, **more):
    write(keys, text)
    result = check(keys, *options, **more)
    assert (result.code, result.stdout, result.stderr) == (0, "configuration OK, users: 1\n", "")


def test_all_lines(keys):
    assert_good(
        keys,
        f"{KEY}\r\n\n # limits\ncommands open # no close\nTTL = 30m\r\naddresses 192.0.2.0/24, 2001:db8::/32\n"
        'addresses\t198.51.100.7\nexpires "2027-01-31T18:00Z"',
        *TIMED,
    )


@pytest.mark.parametrize(
    "text, message",
    [
        (b"", "the key is empty"),
        (b"\n" + KEY.encode(), "the key is empty"),
        (KEY.encode() + b" ", "there is a blank before or after the key; remove it"),
        (b"k" * 4097, "the key is longer than 4096 bytes"),
        (b"a long enough\0key", "the key has a NUL byte in it"),
        (b"\xff" * 20, "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs"),
        (b"# comment\n" + KEY.encode(),
         "its first line is that of a comment or a script, not a key; pyknock keygen -o FILE makes one"),
        (b"key=" + KEY.encode(), "there is a name before the key; leave only the key"),
    ],
)  # fmt: skip
def test_the_first_line_is_checked_as_that_of_a_key_file(keys, text, message):
    assert fault(keys, text) == f":1: {message}"


NO_KEYWORD = (
    "it does not begin with commands, ttl, addresses, expires, nft, ipset, grant-prefix4 or"
    " grant-prefix6 (not shown, it may be the key)"
)
COMMANDS = f"commands: {HIDDEN} is not open, close, or both"
TTL = f"--ttl: {HIDDEN} is not a duration such as 90, 15m, 2h or 1d, at most 366 days"
ADDRESSES = (
    f"addresses: {HIDDEN} is not prefixes such as 192.0.2.0/24 (not 192.0.2.1/24) and 2001:db8::/32,"
    " or source alone"
)
SOURCE = "addresses: source must stand alone, without prefixes"
EXPIRES = (
    f"expires: {HIDDEN} is not a day such as 2027-01-31, or a minute such as 2027-01-31T18:00Z,"
    " in the years 2000 to 9999"
)
TWICE = "there are two such lines, which must be one"


@pytest.mark.parametrize(
    "line, message",
    [
        (KEY, "a keyword without a value"),
        (f"{KEY} {KEY}", NO_KEYWORD),
        (f"state {KEY}", NO_KEYWORD),
        ("ttl", "a keyword without a value"),
        (f'ttl "{KEY}', "a quote that is not closed"),
        ("ttl 3\0", "a NUL in the line"),
        (f"commands {KEY}", COMMANDS),
        ("commands open,", None),
        ("commands open list", COMMANDS),
        (f"ttl {KEY}", TTL),
        ("ttl 0", TTL),
        ("ttl 366d", None),
        ("ttl 367d", TTL),
        ("ttl 1h\nttl 1h", f"ttl: {TWICE}"),
        ("commands open\ncommands close", f"commands: {TWICE}"),
        ("expires 2027-01-31\nexpires 2027-01-31", f"expires: {TWICE}"),
        (f"addresses {KEY}", ADDRESSES),
        ("addresses 192.0.2.1/24", ADDRESSES),
        ("addresses 2001:db8::1/64", ADDRESSES),
        ("addresses 192.0.2.0/33", ADDRESSES),
        ("addresses 192.0.2.0/", ADDRESSES),
        ("addresses 192.0.2.0/+24", ADDRESSES),
        ("addresses 2001:db8::/129", ADDRESSES),
        ("addresses 192.0.2", ADDRESSES),
        ("addresses 010.0.0.1", ADDRESSES),
        ("addresses fe80::1%lo", ADDRESSES),
        ("addresses ::ffff:192.0.2.1", ADDRESSES),
        ("addresses ::ffff:192.0.2.0/120", ADDRESSES),
        ("addresses " + "1" * 200, ADDRESSES),
        ("addresses 0.0.0.0/0 ::/0", None),
        ("addresses source 192.0.2.1", SOURCE),
        ("addresses source\naddresses ::1", SOURCE),
        ("addresses ::1\naddresses source", SOURCE),
        ("addresses source", None),
        ("addresses " + " ".join(f"192.0.2.{n}" for n in range(16)), None),
        ("addresses " + " ".join(f"192.0.2.{n}" for n in range(17)), "addresses: a user can have at most 16 prefixes"),
        ("addresses ::1\n" * 17, "addresses: a user can have at most 16 prefixes"),
        (f"expires {KEY}", EXPIRES),
        ("expires 2028-02-29", None),
        ("expires 2027-02-29", EXPIRES),
        ("expires 2100-02-29", EXPIRES),
        ("expires 2000-02-29T23:59Z", None),
        ("expires 9999-12-31", None),
        ("expires 1999-12-31", EXPIRES),
        ("expires 2027-1-31", EXPIRES),
        ("expires 2027-04-31", EXPIRES),
        ("expires 2027-13-01", EXPIRES),
        ("expires 2027-00-01", EXPIRES),
        ("expires 2027-01-00", EXPIRES),
        ("expires 2027-01-31T24:00Z", EXPIRES),
        ("expires 2027-01-31T18:60Z", EXPIRES),
        ("expires 2027-01-31T18:00", EXPIRES),
        ("expires 2027-01-31 18:00Z", EXPIRES),
        (f"nft {KEY}", f"--nft: {HIDDEN} is not FAMILY/TABLE/SET4[,SET6] with family inet, ip, ip6, bridge or netdev"),
        (f"ipset {KEY}", f"--ipset: {HIDDEN} is not SET4[,SET6], names of at most 31 characters"),
        (f"nft {NFT}\nipset knock4", "--ipset: only one of --nft and --ipset can be given"),
        ("grant-prefix4 15", f"--grant-prefix4: {HIDDEN} is not a number of bits from 16 to 32"),
        (f"grant-prefix6 {KEY}", f"--grant-prefix6: {HIDDEN} is not a number of bits from 48 to 128"),
        ("grant-prefix4 24", "--grant-prefix4 needs --nft or --ipset"),
    ],
)
def test_a_mistake_is_one_line_that_quotes_nothing(keys, line, message):
    if message is None:
        assert_good(keys, f"{KEY}\n{line}\n", *TIMED)
        return
    number = 2 + line.rstrip("\n").count("\n")
    assert fault(keys, f"{KEY}\n{line}\n", *TIMED) == f":{number}: {message}"


def test_each_file_gives_one_line_and_ten_are_shown(keys):
    for number in range(12):
        write(keys, f"{KEY}{number}\nttl\n", f"user{number}")
    result = check(keys)
    assert result.code == 1
    assert len(result.lines) == 11
    for line in result.lines[:10]:
        assert re.fullmatch(rf"pyknock server: '{keys}/user\d+':2: a keyword without a value", line)
    assert result.lines[10] == f"pyknock server: --keys: '{keys}': errors: 12, of which 10 are shown"


def test_the_size_of_a_file_has_a_limit(keys):
    assert_good(keys, KEY + "\n" + "\n" * (16_383 - len(KEY)))
    assert fault(keys, KEY + "\n" + "\n" * (16_384 - len(KEY))) == ": it is larger than 16384 bytes"


@pytest.mark.parametrize("line", ["ttl 30m", "expires 2027-01-31"])
def test_an_end_needs_something_that_ends(keys, line):
    assert fault(keys, f"{KEY}\n{line}\n") == (
        ":2: ttl and expires need --close-after, since the open command has no end by itself"
    )
    assert_good(keys, f"{KEY}\n{line}\n", *TIMED)
    assert_good(keys, f"{KEY}\n{line}\n", commands=["", "true $ip"])


@only_nft
@pytest.mark.parametrize("line", ["ttl 30m", "expires 2027-01-31"])
def test_an_end_needs_a_set_with_timeouts(keys, firewall, line):
    timed = "set timed { type ipv4_addr; flags timeout; }"
    firewall.nft(f"table inet pyknock {{ set knock4 {{ type ipv4_addr; }}\n {timed}\n }}")
    more = {"commands": [], "prefix": firewall.prefix}
    sets = "--nft=inet/pyknock/knock4"
    assert_good(keys, f"{KEY}\n", sets, **more)
    assert fault(keys, f"{KEY}\n{line}\n", sets, **more) == (
        ":2: ttl and expires need --close-after, or timeouts: set knock4 of table inet pyknock has no timeouts,"
        " which --ttl needs; to make it: nft 'delete set inet pyknock knock4; add set inet pyknock knock4"
        " { type ipv4_addr; flags timeout; }'"
    )
    assert_good(keys, f"{KEY}\n{line}\n", sets, *TIMED, **more)
    assert_good(keys, f"{KEY}\n{line}\nnft inet/pyknock/timed\n", sets, **more)


@only_nft
def test_sets_of_a_user_are_checked(keys, firewall):
    firewall.load_example()
    more = {"commands": [], "prefix": firewall.prefix}
    assert fault(keys, f"{KEY}\n\nnft inet/pyknock/mine\n", firewall.sets, "--ttl=1h", **more) == (
        ":3: there is no set mine of table inet pyknock; to make it: nft 'add set inet pyknock mine"
        " { type ipv4_addr; flags timeout; }'"
    )
    assert fault(keys, f"{KEY}\ngrant-prefix4 24\n", firewall.sets, "--ttl=1h", **more).startswith(
        ":2: set knock4 of table inet pyknock does not hold prefixes, which --grant-prefix4 needs; to make it: nft"
    )
    assert fault(keys, f"{KEY}\nnft inet/pyknock/knock4\ngrant-prefix6 64\n", firewall.sets, **more) == (
        ":3: --grant-prefix6 needs a set for IPv6"
    )


@only_ipset
def test_the_name_of_an_ipset_may_be_the_key(keys, firewall):
    firewall.load_example()
    key = KEY[:31]
    message = fault(
        keys, f"{key}\nipset {key}\n", firewall.sets, "--ttl=1h", commands=[], prefix=firewall.prefix
    )
    assert message == (
        ":2: there is no ipset (not shown, it may be the key); to make it: ipset create"
        " (not shown, it may be the key) hash:ip family inet timeout 0"
    )
    assert key not in message


@only_nft
@pytest.mark.parametrize(
    "addresses, prefix, message",
    [
        ("192.0.2.0/24", 24, None),
        ("192.0.2.0/25", 24,
         "it has a prefix within the one that a knock opens; grant-prefix4 32 opens single addresses"),
        ("192.0.2.0/25 2001:db8::/64", 32, None),
        ("2001:db8::/56", 24, None),
        ("2001:db8::/57", 24,
         "it has a prefix within the one that a knock opens; grant-prefix6 128 opens single addresses"),
    ],
)  # fmt: skip
def test_a_prefix_must_lie_in_each_entry(keys, firewall, addresses, prefix, message):
    firewall.nft(
        "table inet pyknock { set knock4 { type ipv4_addr; flags interval; }\n"
        " set knock6 { type ipv6_addr; flags interval; }\n }"
    )
    more = {"commands": [], "prefix": firewall.prefix}
    sets = [firewall.sets, f"--grant-prefix4={prefix}", f"--grant-prefix6={128 if '::/64' in addresses else 56}"]
    text = f"{KEY}\naddresses 0.0.0.0/0\naddresses {addresses}\naddresses ::/0\n"
    if message:
        assert fault(keys, text, *sets, **more) == f":3: {message}"
        assert_good(keys, text + "grant-prefix4 32\ngrant-prefix6 128\n", *sets, **more)
    else:
        assert_good(keys, text, *sets, **more)


def at_once(server, keys, tmp_path, *options):
    return server(
        "--keys", keys, "--state", tmp_path / "state", *options, words=["echo $cmd $ip", "echo $cmd $ip"], key=KEY
    )


def test_knocks_at_the_edge_of_each_limit(server, keys, tmp_path):
    write(keys, f"{KEY}\ncommands open\naddresses 192.0.2.8/31 2001:db8::/64\n")
    ours = at_once(server, keys, tmp_path)
    for address in ("192.0.2.8", "192.0.2.9", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"):
        ours.knock(address)
        ours.log.wait_for(f"accepted open {address} by alice from ")
    for address in ("192.0.2.7", "192.0.2.10", "2001:db7:ffff:ffff::", "2001:db8:0:1::"):
        ours.knock(address)
        ours.log.wait_for(f"refused open {address} by alice from .*: not among the user's addresses, ")
    ours.knock("192.0.2.8", CLOSE)
    ours.log.wait_for("refused close 192.0.2.8 by alice from .*: not among the user's commands, ")


def test_only_the_source(server, keys, tmp_path):
    write(keys, f"{KEY}\naddresses source\n")
    ours = at_once(server, keys, tmp_path)
    ours.knock("127.0.0.1", OPEN)
    ours.log.wait_for("refused open 127.0.0.1 by alice|accepted open 127.0.0.1 by alice from 127.0.0.1:")
    ours.knock("192.0.2.1", OPEN)
    ours.log.wait_for("refused open 192.0.2.1 by alice from .*: not among the user's addresses, ")


@pytest.mark.parametrize("days, outcome", [(-1, "refused"), (0, "accepted")])
def test_the_last_day_of_a_key(server, keys, tmp_path, days, outcome):
    day = datetime.datetime.now(datetime.UTC).date() + datetime.timedelta(days=days)
    write(keys, f"{KEY}\nexpires {day}\n")
    ours = at_once(server, keys, tmp_path, *TIMED)
    ours.knock()
    ours.log.wait_for(f"{outcome} open 192.0.2.1 by alice from ")


def test_a_minute_that_is_over(server, keys, tmp_path):
    now = datetime.datetime.now(datetime.UTC)
    write(keys, f"{KEY}\nexpires {now:%Y-%m-%dT%H:%MZ}\n")
    ours = at_once(server, keys, tmp_path, *TIMED)
    ours.knock()
    ours.log.wait_for("refused open 192.0.2.1 by alice from .*: the key has expired, ")


def test_a_key_file_of_k_must_not_be_that_of_a_user(keys):
    path = write(keys, f"{KEY}\ncommands open\n")
    result = run([*program("server"), "-n", "-k", path, "o", "c"])
    assert result.lines == [
        f"pyknock server: key file '{path}': the file has more than one line; it must hold only the key"
        " (of a file of --keys, copy only its first line)"
    ]
