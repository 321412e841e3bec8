"""Command lines that the original takes mean the same here, and those that it refuses are refused."""

import functools
import ipaddress
import json
import re
import shlex
import string
import struct

import pytest
from support.datagrams import CLOSE, OPEN, packet, signed
from support.networks import listener
from support.programs import ORIGINAL, PYKNOCK, program, run
from support.servers import client

# The tables have a command line in each line, quoted for a shell. O and C stand for these commands.
COMMANDS = {"O": "echo open $ip $af $cmd", "C": "echo close $ip"}

SERVER_LINES = r"""
    psk O C
    -p 7001 psk O C
    psk -p 7001 O C
    psk O -p 7001 C
    psk O C -p 7001
    psk --port=7001 O -t 5 C -b 127.0.0.1
    psk -t 5 O -p 7001 -b ::1 C
    -p 7001 -p 7002 psk O C
    -p7001 psk O C
    -p=7001 psk O C
    --port=7001 psk O C
    --port 7001 psk O C
    '-p 7001' psk O C
    '--port= 7001 ' psk O C
    -p ' 7001 ' psk O C
    -p $'\t7001\n' psk O C
    -p 7_001 psk O C
    -p 007001 psk O C
    -p +7001 psk O C
    -p 1 psk O C
    -p 65535 psk O C
    -p 0 psk O C
    -p 65536 psk O C
    -p -1 psk O C
    -p 72538 psk O C
    -p 18446744073709558617 psk O C
    -p '' psk O C
    -p ' ' psk O C
    -p= psk O C
    -p==7001 psk O C
    -p 7__001 psk O C
    -p _7001 psk O C
    -p 7001_ psk O C
    -p '7 001' psk O C
    -p '+ 7001' psk O C
    -p 0x1b59 psk O C
    -p 7001.0 psk O C
    -p 7001x psk O C
    -port 7001 psk O C
    --p 7001 psk O C
    --po=7001 psk O C
    --t 2.5 psk O C
    --time 2.5 psk O C
    --time-d=2.5 psk O C
    --b ::1 psk O C
    --bind=127.0.0.1 psk O C
    --ports 7001 psk O C
    --port-x=7001 psk O C
    --P 7001 psk O C
    --x 7001 psk O C
    --= psk O C
    --=7001 psk O C
    -x psk O C
    -x 7001 psk O C
    -t 2.5 psk O C
    -t2.5 psk O C
    -t=2.5 psk O C
    -t .5 psk O C
    -t 5. psk O C
    -t 1e1 psk O C
    -t 1.5E+1 psk O C
    -t 25e-1 psk O C
    -t 1_0.2_5 psk O C
    -t ' 5 ' psk O C
    -t +5 psk O C
    -t 86400 psk O C
    -t '' psk O C
    -t . psk O C
    -t 1e psk O C
    -t e1 psk O C
    -t 1__0 psk O C
    -t 1_ psk O C
    -t 1._5 psk O C
    -t 5s psk O C
    -t 0x5 psk O C
    -t 1,5 psk O C
    -t '1 0' psk O C
    -b '' psk O C
    -b= psk O C
    -b127.0.0.1 psk O C
    -b=::1 psk O C
    -b::1 psk O C
    --bind-address=::1 psk O C
    -- psk O C
    psk -- O C
    psk O -- C
    psk O C --
    -p 7001 -- psk O C
    -- -psk O C
    -- -p O C
    -- -- O C
    psk O C -- -p 7001
    -- -p 7001 psk O C
    '-my psk' O C
    '--my psk' O C
    '-my p=sk' O C
    '-p psk' O C
    '--port psk' O C
    '- ' O C
    - O C
    -5 O C
    -77 O C
    -5.5 O C
    -.5 O C
    -5. O C
    -5x O C
    -1e5 O C
    --5 O C
    -b -5
    -psk O C
    --psk O C
    psk '' ''
    psk O ''
    psk O
    psk O C D
    psk O C D E F
    psk
    -p
    --port
    psk O C -p
    psk O C --port
    psk O C -t
    -p -t 5 psk O C
    -p --port 7001 psk O C
    --port psk O C
    --no psk O C
    --j 2 psk O C
    -pt 5 psk O C
    Ā O C
    é O C
"""

CLIENT_LINES = r"""
    open 127.0.0.1 psk
    close 127.0.0.1 psk
    open -p 7001 127.0.0.1 psk
    open 127.0.0.1 psk -p7001
    --port=7001 open 127.0.0.1 psk
    --po 7001 open 127.0.0.1 psk
    open 127.0.0.1 psk -S 192.0.2.1
    open 127.0.0.1 psk -S2001:db8::1
    open 127.0.0.1 psk --sign-address=192.0.2.1
    open 127.0.0.1 psk --si 192.0.2.1
    open 127.0.0.1 psk -s 127.0.0.9
    open 127.0.0.1 psk --source=127.0.0.9
    open 127.0.0.1 psk --so 127.0.0.9 -S=192.0.2.1
    open 127.0.0.1 psk -s127.0.0.9 -s 127.0.0.8
    open 127.0.0.1 psk --s 127.0.0.9
    open 127.0.0.1 psk --s=127.0.0.9
    open 127.0.0.1 psk -S ''
    open 127.0.0.1 psk -s ''
    open 127.0.0.1 psk --sign-address= -s=
    open 127.0.0.1 psk -S
    open 127.0.0.1 -- -psk
    -- open 127.0.0.1 psk
    open 127.0.0.1 '-my psk'
    open 127.0.0.1 -44
    open 127.0.0.1 -0.4
    open 127.0.0.1 -psk
    open 127.0.0.1 --psk
    open 127.0.0.1
    open 127.0.0.1 psk more
    open
    Open 127.0.0.1 psk
    ope 127.0.0.1 psk
    '' 127.0.0.1 psk
    knock 127.0.0.1 psk
    open 127.0.0.1 psk -p 0
    open 127.0.0.1 psk -p 65536
    open 127.0.0.1 psk -p 7_001
"""


def words_of(line):
    line = re.sub(r"\$'(.*?)'", lambda quoted: shlex.quote(eval(f"'{quoted[1]}'")), line)
    return [COMMANDS.get(word, word) for word in shlex.split(line)]


def lines_of(table):
    return pytest.mark.parametrize("line", [line.strip() for line in table.strip().splitlines()])


@functools.cache
def understood_by_original(name, table):
    """What parse_args of a script of the original makes of each line, or None if it refuses the line."""
    script = """
import json, runpy, sys
parse_args = runpy.run_path(sys.argv[1])["parse_args"]
results = []
for words in json.load(sys.stdin):
    sys.argv[1:] = words
    try:
        results.append({**vars(parse_args())})
        results[-1]["psk"] = results[-1]["psk"].decode("latin-1")
    except BaseException:
        results.append(None)
print(json.dumps(results))
"""
    lines = [line.strip() for line in table.strip().splitlines()]
    result = run(
        [ORIGINAL / "python", "-c", script, ORIGINAL / name],
        stdin=json.dumps([words_of(line) for line in lines]).encode(),
    )
    assert result.code == 0, result
    return dict(zip(lines, json.loads(result.stdout), strict=True))


def shell(template, command, **values):
    text = string.Template(template).safe_substitute(cmd=command, **values)
    return run(["/bin/sh", "-c", text]).stdout.splitlines()


def check_meaning(ours, expected):
    """Checks that a server understood its command line as the original does."""
    start = ours.log.wait_for(r"listening on (\S+), drift (\S+) s, receive buffer \d+ bytes$")
    bound = expected["bind_address"] or "::"
    bound = f"[{bound}]" if ":" in bound else bound
    assert start[1] == f"{bound}:{expected['port']}"
    assert float(start[2]) == expected["time_drift"]

    ours.key = expected["psk"]
    host = "::1" if expected["bind_address"] == "::1" else "127.0.0.1"
    ours.send(
        packet("2001:db8::1", OPEN, key=ours.key),
        packet("192.0.2.1", CLOSE, key=ours.key),
        host=host,
    )
    ours.wait_for_counters(accepted=2, running=0, queued=0)
    assert ours.stop() == 0
    assert ours.output.wait_for_end() == (
        shell(expected["open_cmd"], "open", ip="2001:db8::1", af="inet6")
        + shell(expected["close_cmd"], "close", ip="192.0.2.1", af="inet")
    )


@pytest.mark.slow
@lines_of(SERVER_LINES)
def test_server_takes_what_the_original_takes_and_refuses_what_it_refuses(server, namespace, line):
    expected = understood_by_original("pyknock-server", SERVER_LINES)[line]
    words = [*program("server"), *words_of(line)]
    if expected is None:
        result = run([*namespace.prefix, *words])
        assert result.code == 2, result
        assert "\nusage: pyknock server " in result.stderr, result
    else:
        ours = server(words=words_of(line), port=expected["port"], network=namespace)
        check_meaning(ours, expected)


@pytest.mark.parametrize("line", ["-p -- 7001 psk O C", "psk O -p -- 7001 C"])
def test_an_option_finds_its_value_behind_the_separator(server, namespace, line):
    ours = server(words=words_of(line), port=7001, network=namespace)
    expected = {"bind_address": "", "port": 7001, "time_drift": 60, "psk": "psk"}
    check_meaning(ours, expected | {"open_cmd": COMMANDS["O"], "close_cmd": COMMANDS["C"]})


@pytest.mark.parametrize(
    "line",
    ["psk O C -t inf", "psk O C -t nan", "psk O C -t 1e999", "psk O C -t 0", "psk O C -t -5",
     "psk O C -t -0.5", "psk O C -t=-inf", "'' O C"],
)  # fmt: skip
def test_server_refuses_what_the_original_should_not_take(namespace, line):
    assert understood_by_original("pyknock-server", line)[line] is not None
    assert run([*namespace.prefix, *program("server"), *words_of(line)]).code == 2


@pytest.mark.parametrize("line", ["-q psk O C", "psk O C -vv", "-vk - O C", "--key-file=- O -v C"])
def test_flags_stand_in_clusters_and_anywhere(server, line):
    ours = server(words=words_of(line), stdin=b"psk\n", wait=False, key="psk")
    ours.wait_until_ready()
    ours.knock()
    ours.output.wait_for("open 192.0.2.1")


@pytest.mark.parametrize(
    "option",
    ["--key - O C", "--no psk O C", "--job 2 psk O C", "--verb psk O C", "--command 5 psk O C"],
)
def test_options_that_the_original_lacks_have_no_abbreviation(option):
    assert run([*program("server"), *words_of(option)]).code == 2


@lines_of(CLIENT_LINES)
def test_client_takes_what_the_original_takes_and_refuses_what_it_refuses(namespace, line):
    expected = understood_by_original("pyknock-client", CLIENT_LINES)[line]
    with listener(namespace, port=expected["port"] if expected else 60120) as receiver:
        result = client(*words_of(line), key=None, network=namespace)
        if expected is None:
            assert result.code == 2 and "\nusage: pyknock client " in result.stderr, result
            receiver.setblocking(False)
            with pytest.raises(BlockingIOError):
                receiver.recv(4096)
            return
        assert result.code == 0, result
        datagram, source = receiver.recvfrom(4096)
    assert source[0] == (expected["source_address"] or "127.0.0.1")
    address = ipaddress.ip_address(expected["sign_address"] or source[0])
    code, _, family = struct.unpack("<Bdi", datagram[32:45])
    assert datagram == signed(datagram[32:], expected["psk"])
    assert code == {"open": OPEN, "close": CLOSE}[expected["command"]]
    assert family == {4: 2, 6: 10}[address.version]
    assert datagram[45:] == address.packed


def test_the_defaults_are_those_of_the_original(server, namespace):
    ours = server(port=60120, network=namespace)
    ours.log.wait_for(r"listening on \[::\]:60120, drift 60 s, ")
    assert client("open", "127.0.0.1", network=namespace).code == 0
    ours.output.wait_for("open 127.0.0.1 inet")


@pytest.mark.system_root
def test_the_server_asks_for_a_mebibyte_and_logs_its_version_and_what_it_got(server):
    version = run([*PYKNOCK, "version"]).stdout.removeprefix("pyknock ").strip()
    ours = server()
    line = ours.log.wait_for(r"^pyknock server: version (\S+), .*, receive buffer (\d+) bytes$")
    assert line[1] == version
    assert int(line[2]) >= 1 << 20
