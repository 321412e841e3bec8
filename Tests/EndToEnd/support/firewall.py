"""A network with a firewall, whose sets are read with nft and ipset."""

import json

import pytest
from support.networks import Namespace
from support.programs import TIMEOUT, program, run
from support.waiting import until

NFT = "inet/pyknock/knock4,knock6"
HOUR, DAY = 3600, 86400

only_nft = pytest.mark.parametrize("kind", ["nft"], indirect=True)
only_ipset = pytest.mark.parametrize("kind", ["ipset"], indirect=True)


def nft_elements(listing):
    """The elements in the JSON of `nft -j list set`, each with the seconds that are left of it; None means for ever."""
    (held,) = [item["set"] for item in json.loads(listing)["nftables"] if "set" in item]
    elements = {}
    for element in held.get("elem", []):
        element = element.get("elem", element) if isinstance(element, dict) else element
        value, rest = element, None
        if isinstance(element, dict) and "val" in element:
            value, rest = element["val"], element.get("expires")
        if isinstance(value, dict) and "prefix" in value:
            value = f"{value['prefix']['addr']}/{value['prefix']['len']}"
        elif isinstance(value, dict):
            value = "-".join(value["range"])
        elements[value] = rest
    return elements


class Firewall(Namespace):
    """The network of the server, with a firewall of the given kind: nft or ipset."""

    def __init__(self, folder, kind):
        super().__init__(folder)
        self.kind = kind
        self.sets = f"--{kind}={NFT if kind == 'nft' else 'knock4,knock6'}"

    def output(self, *words, check=True, **options):
        # nft needs seconds of the processor to make a set of 100,000 addresses.
        result = run([*self.prefix, *words], timeout=5 * TIMEOUT, **options)
        assert result.code == 0 or not check, result
        return result.stdout

    def nft(self, commands):
        self.output("nft", "-f", "-", stdin=commands.encode())

    def load_example(self, *options, example=None):
        text = run([*program("server"), "--example", example or self.kind, *options]).stdout
        self.output(*(["nft", "-f", "-"] if self.kind == "nft" else ["sh"]), stdin=text.encode())
        return text

    def make_intervals(self, elements=""):
        """Makes knock4 of nftables a set of intervals, with these elements."""
        self.nft("table inet pyknock { set knock4 { type ipv4_addr; flags timeout, interval; }\n }")
        if elements:
            self.nft(f"add element inet pyknock knock4 {{ {elements} }}")

    def remove_sets(self):
        if self.kind == "nft":
            self.nft("delete table inet pyknock")
        else:
            for command in ("iptables -P INPUT ACCEPT", "iptables -F", "ip6tables -F", "ipset destroy"):
                self.run(command)

    def elements(self, name="knock4", table="inet pyknock"):
        """The elements of a set, each with the seconds that are left of it; None means for ever."""
        if self.kind == "ipset":
            lines = self.output("ipset", "list", name, "-output", "save").splitlines()
            words = [line.split() for line in lines if line.startswith("add ")]
            return {word[2]: float(word[4]) if word[4:] else None for word in words}
        return nft_elements(self.output("nft", "-j", "list", "set", *table.split(), name))

    def shorten(self, address):
        """Leaves 9 seconds to an element of knock4 that has an hour, as if the rest had passed."""
        if self.kind == "ipset":
            self.run(f"ipset add knock4 {address} timeout 9 -exist")
        else:
            element = f"element inet pyknock knock4 {{ {address}"
            self.nft(f"delete {element} }}\nadd {element} timeout 1h expires 9s }}")

    def delete(self, element):
        """Takes an element out of knock4, as an administrator may."""
        if self.kind == "nft":
            self.nft(f"delete element inet pyknock knock4 {{ {element} }}")
        else:
            self.run(f"ipset del knock4 {element}")

    def expect(self, expected, **which):
        """Waits until a set has these elements and no others."""
        until(lambda: set(self.elements(**which)) == set(expected), f"a set with {expected}")
