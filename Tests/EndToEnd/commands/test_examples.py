"""The examples of commands in the documents, as they stand there: open twice, close once, and it is closed."""

import json
import os
import re
import sys

import pytest
from support.datagrams import CLOSE, KEY
from support.firewall import only_nft
from support.manual import literal_blocks
from support.programs import ROOT, run

# What is rendered in doc/man is in man.
DOCUMENTS = ["README.md", *(str(path.relative_to(ROOT)) for folder in ("doc", "man", "packaging")
             for path in sorted((ROOT / folder).rglob("*")) if path.is_file() and path.parent.name != "man"
             or path.parent == ROOT / "man")]  # fmt: skip
ADDRESSES = {"inet": "192.0.2.7", "inet6": "2001:db8::7"}
# What the examples change.
SETS = """
add table inet filter
add set inet filter allow_inet { type ipv4_addr; }
add set inet filter allow_inet6 { type ipv6_addr; }
"""
# Stands for the program in a block for the shell, and says what its arguments are.
PROGRAM = f"""#!{sys.executable}
import json, sys
print(json.dumps(sys.argv[1:]))
"""


def blocks(text):
    """The examples for the shell in Markdown and in manual pages."""
    found = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return found + literal_blocks(text)


def examples(path):
    """The examples in a document: a block for the shell, or lines of server.conf."""
    text = (ROOT / path).read_text(errors="replace")
    lines = re.findall(r"^((?:no-shell yes\n)?#?open-command .*\n#?close-command .*\n)", text, re.MULTILINE)
    return [
        *(("shell", block) for block in blocks(text) if "$ip" in block and "open-command" not in block),
        *(("file", re.sub("^#", "", pair, flags=re.MULTILINE)) for pair in lines),
    ]


EXAMPLES = [(path, *found) for path in DOCUMENTS for found in examples(path)]


def test_all_examples_are_found():
    assert [path for path, *_ in EXAMPLES] == [
        "man/pyknock-server.8",
        "man/pyknock.conf.5",
        "packaging/systemd/server.conf",
    ]


@only_nft
@pytest.mark.parametrize("family", ADDRESSES)
@pytest.mark.parametrize(("path", "form", "text"), EXAMPLES, ids=[path for path, *_ in EXAMPLES])
def test_the_example_opens_once_and_closes_all(firewall, server, tmp_path, path, form, text, family):
    firewall.nft(SETS)
    for name in ADDRESSES:
        firewall.run(f"ipset create knock-{name} hash:ip family {name}")
    if form == "shell":
        stub = tmp_path / "pyknock"
        stub.write_text(PROGRAM)
        stub.chmod(0o755)
        shown = run(["sh", "-ec", text], env={"PATH": f"{tmp_path}:{os.environ['PATH']}"})
        words = ["-k", "-", *json.loads(shown.stdout)[-2:]]
    else:
        (tmp_path / "server.conf").write_text(text)
        (tmp_path / "server.conf").chmod(0o600)
        words = ["-k", "-", f"-f{tmp_path / 'server.conf'}"]
    address = ADDRESSES[family]

    def opened():
        """The lines that mention the address in all that could have changed."""
        states = ["iptables -S", "ip6tables -S", "nft list table inet filter", "ipset save"]
        lines = "".join(firewall.output(*command.split()) for command in states).splitlines()
        return [line for line in lines if re.search(rf"\b{re.escape(address)}\b", line)]

    assert opened() == []
    # A server that has just started remembers no knock, so that none counts as a repeat.
    for _ in range(2):
        ours = server("-v", words=words, stdin=KEY.encode(), network=firewall)
        ours.knock(address)
        ours.log.wait_for(f"^pyknock server: command ended: open {address}: exit status 0$")
        assert len(opened()) == 1, opened()
        assert ours.stop() == 0
    for _ in range(2):
        ours = server("-v", words=words, stdin=KEY.encode(), network=firewall)
        ours.knock(address, CLOSE)
        ours.log.wait_for(f"^pyknock server: command ended: close {address}: exit status 0$")
        assert opened() == []
        assert ours.stop() == 0
