"""Sets of intervals: prefixes are granted, and the elements that they overlap keep their times."""

import ipaddress
from random import Random

import pytest
from support.datagrams import CLOSE, OPEN
from support.firewall import DAY, HOUR, only_nft


def test_neighbours_are_granted_as_well(firewall, start):
    flags = "flags timeout, interval"
    if firewall.kind == "nft":
        firewall.nft(
            f"table inet pyknock {{ set knock4 {{ type ipv4_addr; {flags}; }}\n"
            f"set knock6 {{ type ipv6_addr; {flags}; }}\n }}"
        )
    else:
        firewall.output("ipset", "create", "knock4", "hash:net", "timeout", "0")
        firewall.output("ipset", "create", "knock6", "hash:net", "family", "inet6", "timeout", "0")
    ours = start("--ttl=1h", "--grant-prefix4=20", "--grant-prefix6=56", "-v")
    ours.log.wait_for("grants a /20 in .*knock4.* for 3600 s$")
    ours.log.wait_for("grants a /56 in .*knock6.* for 3600 s$")
    for command in (OPEN, OPEN, CLOSE, CLOSE):
        ours.knock("198.51.111.77", command)
        ours.knock("2001:db8:1:2ff:3::4", command)
        expected = command == OPEN
        firewall.expect(["198.51.96.0/20"] if expected else [])
        firewall.expect(["2001:db8:1:200::/56"] if expected else [], name="knock6")


@only_nft
@pytest.mark.parametrize(
    ("before", "opened", "closed"),
    [
        # Each knock grants 192.0.2.0/24 for an hour.
        ("", {"192.0.2.0/24": HOUR}, {}),
        ("192.0.2.0/24 timeout 9s", {"192.0.2.0/24": HOUR}, {}),
        ("192.0.2.0/24 timeout 1d", {"192.0.2.0/24": DAY}, {}),
        ("192.0.2.0/24", {"192.0.2.0/24": None}, {"192.0.2.0/24": None}),
        ("0.0.0.0/0", {"0.0.0.0/0": None}, {"0.0.0.0/0": None}),
        ("192.0.2.7 timeout 9s, 192.0.2.9 timeout 9s", {"192.0.2.0/24": HOUR}, {}),
        (
            "192.0.2.128/25 timeout 1d",
            {"192.0.2.0/25": HOUR, "192.0.2.128/25": DAY},
            {},
        ),
        (
            "192.0.2.0/25 timeout 9s, 192.0.2.128/25 timeout 9s",
            {"192.0.2.0/24": HOUR},
            {},
        ),
        (
            "192.0.2.5",
            {"192.0.2.0-192.0.2.4": HOUR, "192.0.2.5": None, "192.0.2.6-192.0.2.255": HOUR},
            {"192.0.2.5": None},
        ),
        (
            "192.0.0.0/16 timeout 1d",
            {"192.0.0.0/16": DAY},
            {"192.0.0.0/23": DAY, "192.0.3.0-192.0.255.255": DAY},
        ),
        (
            "192.0.0.0/16 timeout 90s",
            {"192.0.0.0/23": 90, "192.0.2.0/24": HOUR, "192.0.3.0-192.0.255.255": 90},
            {"192.0.0.0/23": 90, "192.0.3.0-192.0.255.255": 90},
        ),
        (
            "192.0.1.250-192.0.2.9 timeout 90s, 192.0.2.200-192.0.3.5 timeout 1d, 255.0.0.0/8",
            {
                "192.0.1.250-192.0.1.255": 90,
                "192.0.2.0-192.0.2.199": HOUR,
                "192.0.2.200-192.0.3.5": DAY,
                "255.0.0.0/8": None,
            },
            {"192.0.1.250-192.0.1.255": 90, "192.0.3.0-192.0.3.5": DAY, "255.0.0.0/8": None},
        ),
    ],
)  # fmt: skip
def test_elements_that_overlap_keep_what_they_are(firewall, start, before, opened, closed):
    firewall.make_intervals(before)
    ours = start("--ttl=1h", "--grant-prefix4=24", "-v", sets="--nft=inet/pyknock/knock4")

    def assert_set(expected):
        found = firewall.elements()
        assert set(found) == set(expected)
        for element, rest in expected.items():
            assert (found[element] is None) == (rest is None), element
            assert rest is None or rest - 5 <= found[element] <= rest, element

    ours.knock("192.0.2.77")
    ours.log.wait_for("set (changed|already up to date): open")
    assert_set(opened)
    ours.knock("192.0.2.78")
    ours.log.wait_for("set (changed|already up to date): open", 2)
    assert_set(opened)
    # Nobody has opened it for this one.
    ours.knock("192.0.2.79", CLOSE)
    ours.log.wait_for("set (changed|already up to date): close")
    ours.knock("192.0.2.77", CLOSE)
    ours.knock("192.0.2.78", CLOSE)
    ours.log.wait_for("set (changed|already up to date|not changed): close", 3)
    ours.wait_for_counters(accepted=5)
    assert_set(closed)


@pytest.mark.slow
@only_nft
@pytest.mark.parametrize("bits", [32, 31, 28])
@pytest.mark.parametrize("seed", range(3))
def test_a_set_of_intervals_does_what_its_addresses_would(firewall, start, bits, seed):
    """Compares the set with a model of single addresses. Times are long, short or for ever.

    Each address knocks from its prefix alone, so that a close ends all that is open."""
    random = Random(seed)
    size, base = 64, int(ipaddress.ip_address("192.0.2.0"))
    times = {"timeout 9h": 9 * HOUR, "timeout 300s": 300, "": None}
    model, elements, address = [0] * size, [], 0
    while address < size:
        last = min(size - 1, address + random.choice([0, 0, 0, 1, 5, 15]))
        text, rest = random.choice(list(times.items()))
        first_text, last_text = (ipaddress.ip_address(base + end) for end in (address, last))
        elements.append(f"{first_text}-{last_text} {text}" if last > address else f"{first_text} {text}")
        model[address : last + 1] = [rest] * (last + 1 - address)
        address = last + 1 + random.choice([0, 0, 1, 3])
    # Other elements change the shape of the kernel's tree.
    elements += [f"10.0.0.{2 * number}" for number in range(random.randrange(20))]
    firewall.make_intervals(", ".join(elements))
    ours = start("--ttl=1h", f"--grant-prefix4={bits}", "-v", sets="--nft=inet/pyknock/knock4")

    def assert_as_model():
        found = [0] * size
        for element, rest in firewall.elements().items():
            first, _, last = element.partition("-")
            if "/" in element:
                network = ipaddress.ip_network(element)
                first, last = network[0], network[-1]
            start = int(ipaddress.ip_address(first)) - base
            for held in range(start, int(ipaddress.ip_address(last or first)) - base + 1):
                if 0 <= held < size:
                    found[held] = rest
        for held in range(size):
            near = found[held] == model[held]
            if model[held] and found[held]:
                near = model[held] - 30 <= found[held] <= model[held]
            assert near, (held, model[held], found[held])

    for count in range(1, 41):
        width = 1 << (32 - bits)
        held = random.randrange(size) // width * width
        command = random.choice([OPEN, CLOSE])
        ours.knock(str(ipaddress.ip_address(base + held)), command)
        ours.log.wait_for(r"pyknock server: set .*: (open|close)", count)
        for neighbour in range(held, held + width):
            rest = model[neighbour]
            if command == OPEN:
                model[neighbour] = None if rest is None else max(rest, HOUR)
            else:
                model[neighbour] = None if rest is None else 0
        assert_as_model()


@only_nft
@pytest.mark.parametrize("address", ["0.0.0.1", "255.255.255.254"])
def test_the_first_and_the_last_prefix_of_all(firewall, start, address):
    firewall.make_intervals()
    ours = start("--ttl=1h", "--grant-prefix4=31", "-v", sets="--nft=inet/pyknock/knock4")
    expected = {str(ipaddress.ip_network(f"{address}/31", strict=False)): HOUR}
    for count in (1, 2):
        ours.knock(address)
        # In the same tick of the kernel's clock, the second knock changes nothing.
        ours.log.wait_for("set (changed|already up to date): open", count)
        assert set(firewall.elements()) == set(expected)
    ours.knock(address, CLOSE)
    firewall.expect([])


@pytest.mark.slow
@only_nft
def test_where_too_many_elements_overlap_the_address_alone_is_granted(firewall, start):
    # These addresses are neighbours, so that their elements touch.
    many = [f"10.0.{number}.{host}" for number in range(2) for host in range(200)]
    firewall.make_intervals(", ".join(f"{address} timeout 60s" for address in many))
    ours = start("--ttl=1h", "--grant-prefix4=16", "-v", sets="--nft=inet/pyknock/knock4")
    for address in ["10.0.3.1", *many[:50]]:
        ours.knock(address)
        ours.log.wait_for(f"set changed: open {address}$")
    elements = firewall.elements()
    assert set(elements) == {*many, "10.0.3.1"}
    assert all(elements[address] > 60 for address in ["10.0.3.1", *many[:50]])
    assert all(elements[address] <= 60 for address in many[50:])
    for address in many[:50]:
        ours.knock(address, CLOSE)
        ours.log.wait_for(f"set changed: close {address}$")
    firewall.expect([*many[50:], "10.0.3.1"])
