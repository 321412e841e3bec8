"""contrib/pyknock.py as a library: the vectors of version 2, every bit of an answer, and the clock."""

import inspect
import ipaddress
import json
import random
import time
from collections import Counter

import pyknock
import pytest
from support.version2 import KEY2, OTHER_KEY2, VECTORS, ServerKey

GOOD = [(key["text"], good) for key in VECTORS["keys"] for good in key["good"]]
CLIENT = VECTORS["client_that_sent_good"]
RESULTS = {"done": 0, "failed": 1, "not allowed": 2, "no room": 3, "failed (200)": 200}


@pytest.fixture
def evaluate(client):
    """Calls a function of this file under each Python. What it takes and returns is JSON."""

    def evaluate(function, *values):
        lines = [
            "import ipaddress, json", inspect.getsource(function),
            f"print(json.dumps({function.__name__}(*json.load(sys.stdin))))", "sys.exit()",
        ]  # fmt: skip
        result = client.run(change="\n".join(lines), stdin=json.dumps(values).encode())
        assert (result.code, result.stderr) == (0, "")
        return json.loads(result.stdout)

    return evaluate


def request_and_answer(text, good):
    key = pyknock.read_key(text)
    address = ipaddress.ip_address(good["address"]) if good["address"] else None
    datagram = key.request(good["command"], int(good["micros"]), address, good["seconds"], bool(good["flags"]))
    answer = bytes.fromhex(good["answer"]["datagram"]) if "answer" in good else b""
    found = key.open_answer(answer, {datagram[:32]})
    return datagram.hex(), found and [found.result, found.seconds, str(found.micros), str(found.address)]


@pytest.mark.parametrize("text, good", GOOD)
def test_requests_are_made_byte_for_byte(evaluate, text, good):
    answer = good.get("answer")
    expected = answer and [answer[name] for name in ("result", "seconds", "micros", "address")]
    assert evaluate(request_and_answer, text, good) == [good["datagram"], expected]


def derived_keys(text):
    key = pyknock.read_key(text)
    keys = key.tag_key, key.mask_key, key.answer_tag_key, key.answer_mask_key, key.id, key.id_mask_key
    return [key.hex() for key in keys]


@pytest.mark.parametrize("key", VECTORS["keys"], ids=["first", "second"])
def test_the_derived_keys(evaluate, key):
    names = "K_tag", "K_mask", "K_answer", "K_amask", "id", "S_mask"
    assert evaluate(derived_keys, key["text"]) == [key[name] for name in names]


def result_of(text, tag, datagram):
    answer = pyknock.read_key(text).open_answer(bytes.fromhex(datagram), {bytes(32), bytes.fromhex(tag)})
    return answer and answer.result


@pytest.mark.parametrize("answer", CLIENT["answers"], ids=lambda answer: answer["name"])
def test_answers_are_taken_or_ignored_as_listed(evaluate, answer):
    expected = None if answer["result"] == "ignored" else RESULTS[answer["result"]]
    assert evaluate(result_of, KEY2, CLIENT["T"], answer["datagram"]) == expected


def fault_of(text):
    try:
        assert pyknock.read_key(text).version == 2
    except pyknock.KeyFault as fault:
        return fault.fault
    return "ok"


@pytest.mark.parametrize("text", VECTORS["key_texts"], ids=lambda text: text["result"])
def test_key_texts_are_taken_or_refused_as_listed(evaluate, text):
    assert evaluate(fault_of, text["text"]) == text["result"]


def test_a_key_has_one_text_only():
    """Each of the four bits that stand for nothing must be 0."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    taken = []
    for letter in letters:
        try:
            taken.append(pyknock.read_key(KEY2[:-1] + letter) and letter)
        except pyknock.KeyFault as fault:
            assert fault.fault in ("last bits", "check")
    assert taken == [KEY2[-1]]


def test_no_changed_bit_of_a_key_text_is_taken():
    for index in range(len(KEY2)):
        for bit in range(7):
            text = KEY2[:index] + chr(ord(KEY2[index]) ^ 1 << bit) + KEY2[index + 1 :]
            if "pk2." in text.lower():
                with pytest.raises(pyknock.KeyFault):
                    pyknock.read_key(text)


@pytest.mark.parametrize("answer", [a for a in CLIENT["answers"] if a["result"] == "done"])
def test_no_answer_with_a_changed_bit_is_taken(answer):
    key, tags = pyknock.read_key(KEY2), [bytes.fromhex(CLIENT["T"])]
    datagram = bytes.fromhex(answer["datagram"])
    for bit in range(len(datagram) * 8):
        changed = bytearray(datagram)
        changed[bit // 8] ^= 1 << bit % 8
        assert key.open_answer(bytes(changed), tags) is None
    for tag in tags:
        for bit in range(256):
            changed = bytearray(tag)
            changed[bit // 8] ^= 1 << bit % 8
            assert key.open_answer(datagram, [bytes(changed)]) is None


def test_random_requests_and_answers_against_the_server_of_the_tests():
    """Both read PROTOCOL.md alone."""
    source = random.Random(2)
    keys = [(pyknock.read_key(text), ServerKey(text)) for text in (KEY2, OTHER_KEY2)]
    for _ in range(2000):
        (ours, theirs), (_, wrong) = source.sample(keys, 2)
        command, micros, seconds = source.randint(1, 3), source.getrandbits(63), source.getrandbits(32)
        wants_answer, size = source.random() < 0.5, source.choice((4, 16))
        address = pyknock.plain_address(ipaddress.ip_address(source.randbytes(size)))
        datagram = ours.request(command, micros, address, seconds, wants_answer)
        request = theirs.open(datagram)
        assert (request.command, request.flags, request.door, request.reserved) == (command, wants_answer, 0, 0)
        assert (request.seconds, request.time) == (seconds, micros)
        assert request.address == address
        assert wrong.open(datagram) is None
        result = source.randrange(256)
        answer = theirs.answer(request.tag, address, result, seconds, micros)
        assert ours.open_answer(answer, {request.tag}) == (result, seconds, micros, address)


@pytest.mark.slow
def test_requests_look_like_noise():
    """They differ in the lowest digits of their time alone."""
    key, address = pyknock.read_key(KEY2), ipaddress.ip_address("192.0.2.7")
    count = 100_000
    requests = [key.request(pyknock.OPEN, 1_764_103_971_000_000 + index, address) for index in range(count)]
    text = b"".join(requests)
    assert len(text) == count * 72
    for place in range(72):
        column = Counter(text[place::72])
        for bit in range(8):
            ones = sum(times for value, times in column.items() if value >> bit & 1)
            # Five standard deviations.
            assert abs(ones - count / 2) < 5 * (count / 4) ** 0.5, (place, bit)
    # Two of 900,000 random numbers of 64 bits are equal once in 45 million times.
    assert len({text[place : place + 8] for place in range(0, len(text), 8)}) == count * 9


def test_a_fine_clock_is_not_changed():
    clock = pyknock.Clock()
    before = time.time_ns() // 1000
    assert before <= clock.micros() <= time.time_ns() // 1000 + 1


@pytest.mark.parametrize("resolution", [0.015625, 0.001])
def test_a_coarse_clock_has_random_digits(monkeypatch, resolution):
    """As on Windows. Two programs that ask at the same tick have different times, most likely."""
    tick = 1_764_103_971_123_000_000
    monkeypatch.setattr(time, "get_clock_info", lambda name: type("Info", (), {"resolution": resolution}))
    monkeypatch.setattr(time, "time_ns", lambda: tick)
    clock, other = pyknock.Clock(), pyknock.Clock()
    times = [clock.micros() for _ in range(1000)]
    assert len(set(times)) == 1000
    assert all(tick // 1000 <= micros < tick // 1000 + resolution * 1e6 + 1000 for micros in times)
    assert len({micros % 10 for micros in times}) == 10
    assert [other.micros() for _ in range(8)] != times[:8]


def test_a_clock_that_stands_still_gives_no_time_twice(monkeypatch):
    for now, times in (5000, [5, 6, 7]), (-5000, [0, 1, 2]):
        monkeypatch.setattr(time, "time_ns", lambda now=now: now)
        clock = pyknock.Clock()
        assert [clock.micros() for _ in range(3)] == times
