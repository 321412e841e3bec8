"""Options about sets that do not fit."""

import pytest
from support.programs import program, run

BAD_PORTS = "--hide: '%s' is not PORT[/udp],... with ports from 1 to 65535, each named once"
KNOCK_PORT = "--hide: knocks arrive at this UDP port (-p), so it cannot be hidden"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ttl=1h", "", ""], "--ttl needs --nft or --ipset"),
        (["--grant-prefix4=24", "", ""], "--grant-prefix4 needs --nft or --ipset"),
        (["--grant-prefix6=64", "", ""], "--grant-prefix6 needs --nft or --ipset"),
        (["--nft=inet/a/b", "--grant-prefix6=64"], "--grant-prefix6 needs a set for IPv6"),
        (["--nft=inet/a/,b", "--grant-prefix4=24"], "--grant-prefix4 needs a set for IPv4"),
        (
            ["--nft=inet/a/b", "--ipset=c"],
            "--ipset: only one of --nft and --ipset can be given",
        ),
        (["--ipset=c", "--nft=inet/a/b"], "--nft: only one of --nft and --ipset can be given"),
        (
            ["--ipset=c", "--ttl=25d"],
            "--ttl: sets of ipset take at most 2147483 seconds (24 days)",
        ),
        (
            ["--nft=inet/a/b", "--ttl=0"],
            "--ttl: '0' is not a duration such as 90, 15m, 2h or 1d, at most 366 days",
        ),
        (
            ["--nft=inet/a/b", "--grant-prefix4=15"],
            "--grant-prefix4: '15' is not a number of bits from 16 to 32",
        ),
        (
            ["--nft=inet/a/b", "--grant-prefix4=33"],
            "--grant-prefix4: '33' is not a number of bits from 16 to 32",
        ),
        (
            ["--nft=inet/a/b", "--grant-prefix6=47"],
            "--grant-prefix6: '47' is not a number of bits from 48 to 128",
        ),
        (
            ["--nft=inet/a/b", "--grant-prefix6=129"],
            "--grant-prefix6: '129' is not a number of bits from 48 to 128",
        ),
        (
            ["--nft=inet/a/b", "echo"],
            "add --nft, --ipset or 'OPEN_CMD' 'CLOSE_CMD', each in single quotes; operands given: 1",
        ),
        *(
            (
                [f"--nft={text}"],
                f"--nft: {shown} is not FAMILY/TABLE/SET4[,SET6]"
                " with family inet, ip, ip6, bridge or netdev",
            )
            for text, shown in (
                ("", "''"),
                ("inet", "'inet'"),
                ("inet/a", "'inet/a'"),
                ("inet/a/", "'inet/a/'"),
                ("inet/a/,", "'inet/a/,'"),
                ("inet//b", "'inet//b'"),
                ("arp/a/b", "'arp/a/b'"),
                ("INET/a/b", "'INET/a/b'"),
                ("inet/a/b c", "'inet/a/b c'"),
                ("inet/a/b,c,d", "'inet/a/b,c,d'"),
                ("inet/a/b;c", "'inet/a/b;c'"),
                ("inet/a/" + 256 * "b", "'inet/a/" + 121 * "b" + "...'"),
            )
        ),
        *(
            (
                [f"--ipset={text}"],
                f"--ipset: {shown} is not SET4[,SET6], names of at most 31 characters",
            )
            for text, shown in (
                ("", "''"),
                (",", "','"),
                ("a,b,c", "'a,b,c'"),
                (32 * "a", "'" + 32 * "a" + "'"),
                ("a\nb", "'a\\x0ab'"),
            )
        ),
        (["--example=pf"], "--example: 'pf' is not nft, ipset or docker"),
        (["--example=docker"], "--example docker needs --hide"),
        (["--hide=22"], "--hide needs --example nft or --example docker"),
        (["--example=ipset", "--hide=22"], "--hide needs --example nft or --example docker"),
        (["--example=nft", "--hide=60120/udp"], KNOCK_PORT),
        (["--example=docker", "--hide=22,4711/udp", "-p4711"], KNOCK_PORT),
        *(
            (
                ["--example=nft", f"--hide={text}"],
                BAD_PORTS % text,
            )
            for text in (
                "", ",", "0", "-1", "65536", "70000", "22,", ",22", "22,,443", "22/sctp", "22/", "/udp", "22/udp/tcp",
                "ssh", "22-25", "22 443", "22,22", "22,443,22/tcp", "5/udp,22,5/udp",
            )
        ),
    ],
)
def test_a_command_line_with_a_mistake(key_file, options, message):
    result = run([*program("server"), "-k", key_file, *options])
    assert result.code == 2
    assert result.lines[0] == f"pyknock server: {message}"
    assert result.lines[1].startswith("usage: pyknock server ")
    assert [line.split(" ")[0] for line in result.lines[2:]] == ["", ""]


def test_a_mistake_is_shown_without_a_key():
    result = run([*program("server"), "--hide=0", "--example=nft"])
    assert result.code == 2
    assert result.lines[0] == f"pyknock server: {BAD_PORTS % '0'}"


@pytest.mark.parametrize("text", ["60120,60121/udp", "1/udp,65535", "22/tcp,22/udp"])
def test_ports_that_can_be_hidden(text):
    result = run([*program("server"), "--example=nft", "--hide", text])
    assert (result.code, result.stderr) == (0, "")
