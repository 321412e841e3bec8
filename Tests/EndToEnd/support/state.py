"""State directories: what the server keeps there, and servers that use one directory one after the other."""

import hmac
import json
import struct

from support.datagrams import KEY
from support.networks import HOST
from support.programs import program, run
from support.waiting import until

# Bytes: what precedes the first record of each file, and the records.
HEADER, GRANT, KNOCK = 4096, 128, 56
# The two marks of the replay memory: their offsets, and their fields.
MARKS = 512, 1024
MARK_FORMAT = "<QQqqQqqQQ"
MARK = ("counter", "sequence", "floor", "time", "boot", "written", "doubt", "drift_and_end", "checksum")


def checksum(*numbers):
    """The last number of each record: FNV-1a, 64 bits at a time."""
    value = 0xCBF29CE484222325
    for number in numbers:
        value = (value ^ number) * 0x100000001B3 & (1 << 64) - 1
        value ^= value >> 32
    return value


def grant(address, since, asked, ends, sequence=1, family=4):
    """A record of the journal: an IPv4 address as a number, and seconds since 1970. Its command has to be closed."""
    times = [round(seconds * 1e6) for seconds in (since, asked, ends)]
    what = family | 32 << 8 | (2 | 128) << 32
    # Another key would be another user's, whose grants a start closes.
    key = hmac.digest(KEY.encode(), b"pyknock key fingerprint", "sha256")[:16]
    body = struct.pack("<QQQqqqqQ40x16s", what, 0, address, *times, 2**63 - 1, sequence, key)
    return body + struct.pack("<Q", checksum(*struct.unpack("<15Q", body)))


def patch(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


class Remembered:
    """A state directory with the replay memory. `make` starts servers."""

    def __init__(self, make, path, key=KEY):
        self.make, self.path, self.replay, self.key = make, path, path / "replay", key

    def start(self, *options, **more):
        return self.make("--state", str(self.path), *options, key=self.key, **more)

    def fails(self, *options):
        """The last line of a server that cannot start."""
        words = [*program("server"), "-k", "-", "--state", self.path, *options, "", ""]
        result = run(words, stdin=self.key.encode())
        assert result.code == 1
        return result.lines[-1]

    def remember_ten(self, *options):
        """Leaves a file that remembers ten datagrams, and returns these."""
        ours = self.start(*options)
        old = [ours.knock(f"192.0.2.{host}") for host in range(1, 11)]
        ours.wait_for_counters(accepted=10)
        ours.stop()
        return old

    def patch(self, offset, data):
        patch(self.replay, offset, data)

    def mark(self):
        """The valid mark, by the names in KnockServer/Replay/ReplayFile.swift. Times are in microseconds."""
        data = self.replay.read_bytes()
        marks = [dict(zip(MARK, struct.unpack_from(MARK_FORMAT, data, at), strict=True)) for at in MARKS]
        mark = max(marks, key=lambda mark: mark["counter"])
        mark["drift"], mark["is_clean"] = divmod(mark.pop("drift_and_end"), 2)
        return mark

    def change_mark(self, **fields):
        """Replaces fields of the valid mark."""
        mark = {**self.mark(), **fields}
        mark["counter"] += 1
        mark["drift_and_end"] = mark["drift"] * 2 + mark["is_clean"]
        body = struct.pack(MARK_FORMAT, *(mark[name] for name in MARK))[:-8]
        self.patch(MARKS[0], body + struct.pack("<Q", checksum(*struct.unpack("<8Q", body))))
        self.patch(MARKS[1], bytes(len(body)))


class Journal:
    """A state directory with grants, and a file in which commands note what they do. `make` starts servers."""

    def __init__(self, make, folder):
        self.make, self.path, self.done = make, folder / "state", folder / "done"
        self.command = f"echo $cmd $ip >> {self.done}"
        self.done.touch()

    def start(self, *options, seconds=1, **more):
        more.setdefault("on_open", self.command)
        options = [f"--state={self.path}", f"--close-after={seconds}", *options]
        return self.make(*options, **more)

    def lines(self):
        return self.done.read_text().splitlines()

    def wait_for(self, *lines):
        until(lambda: self.lines() == list(lines), lambda: f"{lines}, but {self.lines()}")

    def list(self, stderr="", network=HOST):
        """What is open, as `pyknock status --json` prints it."""
        result = run([*network.prefix, *program("status"), "--state", self.path, "--json"])
        assert result.stderr == stderr
        listed = json.loads(result.stdout)
        assert result.code == (1 if stderr else 0 if listed["running"] else 3)
        return listed["open"]

    def open(self, **more):
        """The addresses that are open."""
        return [item["address"] for item in self.list(**more)]

    def make_records(self, *records):
        """Leaves a journal with these records."""
        self.start().stop()
        path = self.path / "grants"
        data = bytearray(path.read_bytes())
        data[HEADER:] = b"".join(records).ljust(len(data) - HEADER, b"\0")
        path.write_bytes(data)

    def records(self):
        """Each record of the file: what it is, address (two numbers), since, asked, ends, sequence.

        Times are in microseconds since 1970."""
        data = (self.path / "grants").read_bytes()[HEADER:]
        return list(struct.iter_unpack("<QQQqqq8xQ64x", data))
