#!/usr/bin/env python3
"""The client of pyknock in one file, for any system with Python 3.8 or later. See PYTHON.md beside it.

It reads the key and client.conf. It asks the system for the addresses of HOST, and sends a datagram to each. It waits
only with `check` and --answer, at most 11 seconds, and with -S auto, at most ten seconds for STUN servers. It writes no
file and runs no program. The parts below are, in this order: keys and datagrams, addresses, messages, keys in files,
settings of a host, client.conf, the command line, knocking.

As a library, for tests and other programs:

    key = read_key(text)                 KeyFault if the text is no key; its `fault` names the reason
    key.version                          1 or 2
    Version1Key.request(command, time, address)
                                         49 or 61 bytes; `time` in seconds, `address` of the module ipaddress
    Version2Key.request(command, micros, address=None, seconds=0, wants_answer=False)
                                         72 bytes; no address stands for the one that the server sees
    Version2Key.open_answer(datagram, tags)
                                         an Answer to a request whose first 32 bytes are in `tags`, or None
    OPEN, CLOSE, CHECK                   commands
"""

import os
import sys

if __name__ == "__main__":
    # Otherwise Python looks for modules first beside this file. A hmac.py in the same folder would get the key.
    sys.path = [path for path in sys.path if os.path.realpath(path) != os.path.dirname(os.path.realpath(__file__))]

import base64
import collections
import contextlib
import functools
import getpass
import hmac
import ipaddress
import re
import secrets
import select
import signal
import socket
import stat
import struct
import time
import warnings

VERSION = "1.2.0"
OPEN, CLOSE, CHECK = 1, 2, 3
COMMANDS = {"open": OPEN, "close": CLOSE, "check": CHECK}
WORDS = {number: word for word, number in COMMANDS.items()}
# The result of an answer that another address of the host may better.
NOT_ALLOWED = 2
# Exit codes. Those up to 5 are the ones of `pyknock client`.
DONE, FAILURE, MISUSE, UNRESOLVED, BAD_SOURCE, BAD_ADDRESS, REFUSED, FAILED, NO_ANSWER = 0, 1, 2, 3, 4, 5, 7, 8, 9

DEFAULT_PORT = 60120
SYSTEM_FILE = "/etc/pyknock/client.conf"
FILE_LIMIT = 65536  # Bytes of a client.conf.
HOST_LIMIT = 16
ADDRESS_LIMIT = 100  # Of a host, in each family.
# How many sockets to wait for at once. select takes 512 on Windows, and elsewhere descriptors under 1024.
SELECT_LIMIT, FULL_PAUSE = 500, 0.05  # Seconds. When to look at all sockets if there are more.
LONGEST_KEY = 4096  # Bytes in Latin-1. In UTF-8, each may be two.
LINE_LIMIT = 2 * LONGEST_KEY + 3  # Bytes. With the end of the line, and one that is too much.
SHORT_KEY = 16  # A key with fewer bytes may be guessed.

# A server runs no command again for a request that repeats another less than two seconds later.
ASK_INTERVAL, REPEAT_LIMIT = 1.0, 2.0  # Seconds.
ASKS = 10
OTHERS_PATIENCE = 1.0  # Seconds. How long another address of a host may do what the first one to answer did not do.
CLOCK_TOLERANCE = 2  # Seconds. A check tells of a greater difference.


class Failure(Exception):
    """What ends the work for a host, or all of it. With the exit code."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


# Keys and datagrams


class KeyFault(ValueError):
    """Why a text is no key. No message has any of it."""

    MESSAGES = {
        "empty": "the key is empty",
        "too long": f"the key is longer than {LONGEST_KEY} bytes",
        "not Latin-1": "the key is not UTF-8 text of characters up to U+00FF, which version 1 needs",
        "length": "a key of version 2 has 74 characters, and this one has more or fewer",
        "alphabet": "a key of version 2 has only letters, digits, '-' and '_' after 'pk2.'",
        "last bits": "the last character of the key is wrong",
        "check": "the key is mistyped: its check value is wrong",
        "case": "a key of version 2 begins with 'pk2.' in small letters",
        "blank": "there is a blank before or after the key; remove it",
        "byte-order mark": "it begins with a byte-order mark; save it as UTF-8 without one",
        "NUL": "the key has a NUL byte in it",
        "quotes": "there is a quote before or after the key; remove it",
        "name": "there is a name before the key; leave only the key",
        "second line": "the file has more than one line; it must hold only the key (of a file of --keys, copy only its"
        " first line)",
        "not a key of version 2": "a key that contains 'pk2.' is of version 2, and begins with it",
    }

    def __init__(self, fault):
        other = f"its first line is that of {fault}, not a key; pyknock keygen -o FILE makes one"
        super().__init__(self.MESSAGES.get(fault, other))
        self.fault = fault


def read_key(text):
    """The key in a text. One that contains `pk2.` never becomes a key of version 1."""
    if "pk2." in text.lower():
        return Version2Key(text)
    return Version1Key(text)


def sign(key, message):
    return hmac.digest(key, message, "sha256")


def xor(one, other):
    return bytes(a ^ b for a, b in zip(one, other))


class Version1Key:
    version = 1

    def __init__(self, text):
        try:
            self.bytes = text.encode("latin-1")
        except UnicodeEncodeError:
            raise KeyFault("not Latin-1") from None
        if not self.bytes:
            raise KeyFault("empty")
        if len(self.bytes) > LONGEST_KEY:
            raise KeyFault("too long")

    def request(self, command, time, address):
        # The numbers of Linux. Each system has its own for AF_INET6, and a server takes all of them.
        family = 2 if address.version == 4 else 10
        body = struct.pack("<Bdi", command, time, family) + address.packed
        return sign(self.bytes, body) + body


# The result is 0 for done, 1 failed, 2 not allowed, 3 no room; any other number is a failure, too.
Answer = collections.namedtuple("Answer", "result seconds micros address")


class Version2Key:
    version = 2

    def __init__(self, text):
        data = self.decode(text)
        server, secret, check = data[:16], data[16:48], data[48:]

        def derive(label):
            return sign(secret, b"pyknock 2 " + label + server)

        if not hmac.compare_digest(derive(b"key")[:4], check):
            raise KeyFault("check")
        self.id = derive(b"id")[:8]
        self.tag_key = derive(b"tag")
        self.mask_key = derive(b"mask")
        self.answer_tag_key = derive(b"answer tag")
        self.answer_mask_key = derive(b"answer mask")
        self.id_mask_key = sign(server, b"pyknock 2 id mask")

    @staticmethod
    def decode(text):
        """The 52 bytes in a text."""
        if not text.startswith("pk2."):
            if text.lower().startswith("pk2."):
                raise KeyFault("case")
            if text.startswith("\ufeff"):
                raise KeyFault("byte-order mark")
            if text[0].isspace():
                raise KeyFault("blank")
            if text[0] in "\"'`“”„‘’‚«»":
                raise KeyFault("quotes")
            raise KeyFault("not a key of version 2")
        if len(text) != 74:
            raise KeyFault("length")
        if not re.fullmatch("[A-Za-z0-9_-]{70}", text[4:]):
            raise KeyFault("alphabet")
        data = base64.urlsafe_b64decode(text[4:] + "==")
        if base64.urlsafe_b64encode(data).decode("ascii") != text[4:] + "==":
            raise KeyFault("last bits")
        return data

    def request(self, command, micros, address=None, seconds=0, wants_answer=False):
        plain = struct.pack("<BBBBIQ", command, wants_answer, 0, 0, seconds, micros) + packed(address)
        tag = sign(self.tag_key, plain)
        return tag + xor(self.id, sign(self.id_mask_key, tag)) + xor(plain, sign(self.mask_key, tag))

    def open_answer(self, datagram, tags):
        if len(datagram) != 64:
            return None
        answer_tag, masked = datagram[:32], datagram[32:]
        plain = xor(masked, sign(self.answer_mask_key, answer_tag))
        for tag in tags:
            if hmac.compare_digest(sign(self.answer_tag_key, tag + plain), answer_tag):
                result, seconds, micros = struct.unpack("<BxxxIQ", plain[:16])
                return Answer(result, seconds, micros, plain_address(ipaddress.IPv6Address(plain[16:])))
        return None


def packed(address):
    """The 16 bytes of an address in version 2."""
    if address is None:
        return bytes(16)
    return bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed


class Clock:
    """Microseconds since 1970, different for each request.

    Below its resolution, which is 15 ms on Windows, the digits of the system's clock say nothing. Random ones keep
    two clients with the same key apart.
    """

    def __init__(self):
        self.resolution = int(time.get_clock_info("time").resolution * 1e6)
        self.used = set()

    def micros(self):
        now = max(time.time_ns() // 1000, 0)  # No request can say that it is before 1970.
        while True:
            micros = now + secrets.randbelow(max(self.resolution, 1))
            if micros not in self.used:
                self.used.add(micros)
                return micros
            now += 1


# Addresses

# RFC 6890. The addresses for documentation count as public.
PRIVATE = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
    *("192.168.0.0/16", "198.18.0.0/15", "240.0.0.0/4", "2001:2::/48", "2001:10::/28"),
]
PRIVATE = [ipaddress.ip_network(text) for text in PRIVATE]
PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
NAT64 = [ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48")]
BROADCAST = ipaddress.ip_address("255.255.255.255")


def plain_address(address):
    """The IPv4 address inside an IPv6 one."""
    return (address.version == 6 and address.ipv4_mapped) or address


def numeric_address(text):
    """An address in the form of inet_pton(3), or None. Some versions of Python take more."""
    last = text.rpartition(":")[2]
    if "%" in text or ("." in last and not re.fullmatch(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}", last)):
        return None
    try:
        return plain_address(ipaddress.ip_address(text))
    except ValueError:
        return None


def look_up(host, port, family=0, flags=0):
    """Families and addresses, each once."""
    if host == "*":  # The GNU C library takes it for this machine.
        raise ValueError
    found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM, 0, flags)
    return list(dict.fromkeys((family, place) for family, _, _, _, place in found))


def numeric_place(text):
    """The family and the address that the system reads in a text, perhaps with an interface or in an old form."""
    try:
        return look_up(text, 0, flags=socket.AI_NUMERICHOST)[0]
    except (OSError, ValueError):
        return None


def old_form(text):
    """The address that an old form of IPv4 stands for, such as 010.0.0.1 (8.0.0.1) and 127.1, or None: inet_aton(3)."""
    family, place = numeric_place(text) or (None, None)
    return place[0] if family == socket.AF_INET and not numeric_address(text) else None


def warn_of_old_form(name, text):
    if old_form(text):
        log.line(f"warning: {name} {quoted(text)} is read as {old_form(text)}")


def refusal(address):
    """Why no host can have an address, or None."""
    if address.is_unspecified:
        return "unspecified address"
    if address.is_multicast:
        return "multicast address"
    return "broadcast address" if address == BROADCAST else None


def is_private(address):
    """Whether no public server sees it as a source."""
    if address.version == 6 and address not in PUBLIC_IPV6:
        return True
    return any(address in network for network in PRIVATE if network.version == address.version)


def host_refusal(text):
    """What a host would have to be instead, or None."""
    if is_bracketed(text):
        return None
    if "@" in text:
        return "a host alone: leave out the user and the @"
    if "/" in text:
        return "a host alone: write its name or address, and no URL or path"
    colons = text.count(":")
    if colons == 1 or "[" in text or "]" in text or (colons > 1 and "%" not in text and not numeric_address(text)):
        return "a host alone: leave out brackets, and the port, which -p or Port in client.conf names"
    return None


def is_bracketed(text):
    return text.startswith("[") and text.find("]") == len(text) - 1 and ":" in text


def without_brackets(text):
    return text[1:-1] if is_bracketed(text) else text


# Messages


class Log:
    """Lines on the standard error. Only here it is decided which arguments they show."""

    is_verbose = False
    # Whether none of the arguments can be the key.
    shows_arguments = False

    @staticmethod
    def line(message, name="pyknock.py: "):
        if sys.stderr:  # Python has None for a descriptor that is closed, and would print on the standard output.
            with contextlib.suppress(OSError):
                print(f"{name}{message}", file=sys.stderr)

    def verbose(self, message):
        if self.is_verbose:
            self.line(message)

    def argument(self, text):
        """An argument between quotes, unless it may be the key."""
        if self.shows_arguments and "pk2." not in text.lower():
            return quoted(text)
        return "the value (not shown, it may be the key)"

    def host(self, text):
        """A host between quotes. A key is likely to have capitals, and no dot or colon if it is long."""
        limit = 64 if re.search("[.:]", text) else SHORT_KEY
        if re.fullmatch("[0-9a-z.:][0-9a-z.:-]*", text) and len(text) < limit and "pk2." not in text:
            return quoted(text)
        return self.argument(text)


log = Log()


def quoted(text):
    """Printable ASCII between quotes, and the rest as \\xNN, so that no text can forge a line."""
    # Other bytes than UTF-8 stand in an argument of POSIX, and halves of characters in one of Windows.
    data = text.encode("utf-8", "surrogateescape" if os.name == "posix" else "surrogatepass")
    shown = "".join(chr(b) if 0x20 <= b < 0x7F and chr(b) not in "'\\" else f"\\x{b:02x}" for b in data[:128])
    return f"'{shown}{'...' if len(data) > 128 else ''}'"


def output(line):
    if not sys.stdout:
        raise Failure(FAILURE, "standard output: it is closed")
    try:
        print(line.encode("ascii", "backslashreplace").decode("ascii"), flush=True)
    except OSError as error:
        raise Failure(FAILURE, f"standard output: {reason(error)}") from None


def reason(error):
    return error.strerror or error.__class__.__name__


def duration_text(seconds):
    """`1 h`, `1 h 30 min`: the two greatest units."""
    parts = []
    for unit, size in ("d", 86400), ("h", 3600), ("min", 60), ("s", 1):
        if seconds >= size:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    return " ".join(parts[:2])


def end_text(seconds, start):
    """Until when something is open that stays so for some seconds."""
    if seconds == 0:
        return "until it is closed"
    pattern = "%H:%M" if seconds < 86400 else "%Y-%m-%d %H:%M"
    try:
        return f"until {time.strftime(pattern, time.localtime(start + seconds))} ({duration_text(seconds)})"
    except (OverflowError, OSError, ValueError):  # Not every system has times after 2038 or 3000.
        return f"for {duration_text(seconds)}"


# Keys in files


def mode_of(status):
    """The permission bits. Windows has none: there, nobody else has access to the files of a user."""
    return stat.S_IMODE(status.st_mode) if os.name == "posix" else 0


def is_own(status):
    """Whether a file belongs to this user or root. Windows has no numbers for users."""
    return not hasattr(os, "geteuid") or status.st_uid in (0, os.geteuid())


def key_from_file(path, name):
    """The key in the first line of a file. `name` is what messages call the file."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(LINE_LIMIT)
    except (OSError, ValueError) as error:
        raise Failure(FAILURE, f"{name}: {reason(error) if isinstance(error, OSError) else 'no path'}") from None
    mode = mode_of(status) if stat.S_ISREG(status.st_mode) else 0
    if mode & 0o022:
        raise Failure(FAILURE, f"{name}: others may write it; chmod 600 prevents that")
    if mode & 0o004:
        log.line(f"warning: {name}: others may read it; chmod 600 prevents that")
    line, _, rest = data.partition(b"\n")
    try:
        # What is behind the limit is not known.
        return key_from_line(line, rest.strip() or (rest and len(data) == LINE_LIMIT))
    except KeyFault as fault:
        raise Failure(FAILURE, f"{name}: {fault}") from None


# How the first lines of other files begin. Source: KeyLine.swift.
OTHER_FILES = {
    "a PEM or PGP file": "----|== ed25519v1-|SSH PRIVATE KEY",
    "a PuTTY key": "PuTTY-User-Key-File-",
    "an SSH public key": r"(?=.* )(.*[ \t,])?(ssh-|ecdsa-sha2-|sk-ssh-|sk-ecdsa-|rsa-sha2-|webauthn-sk-)",
    "an age key or file": r"AGE-SECRET-KEY-|AGE-PLUGIN-|age-encryption\.org/|age1[0-9a-z]{55,}\Z",
    "a minisign file": "(un)?trusted comment:",
    "a comment or a script": r"#|;|//|/\*|-- ",
    "XML, HTML or YAML": "<|---|%YAML",
    "JSON": r"\{",
    "an INI section or a JSON array": r"\[",
    "a set of firewall rules": r"table (ip|(inet|arp|bridge|netdev) )|add (table|chain|rule|set|element) |include \"|"
    r"(delete|destroy) table |flush (ruleset|(table|chain|set) )|\*(filter|nat|mangle|raw)",
}


def line_fault(text):
    """Why the line of a file is no key: it is that of another file, or has something around the key."""
    if not text:
        return None
    if text.startswith(("\ufeff", "\udcff\udcfe", "\udcfe\udcff")):
        return "byte-order mark"
    for kind, beginnings in OTHER_FILES.items():
        if re.match(beginnings, text, re.DOTALL):
            return kind
    blanks = " \t\n\v\f\r\xa0"  # str.isspace knows more, which may be of the key.
    if text[0] in blanks or text[-1] in blanks:
        return "blank"
    if text[0] in "\"'`“”„‘’‚«»" or text[-1] in "\"'`":
        return "quotes"
    found = re.match("([0-9A-Za-z_-]*) *(:|=+[^=])", text)
    if text.startswith("export ") or (found and re.search("key|psk|secret|pass", found[1].lower())):
        return "name"
    return "NUL" if "\0" in text else None  # In UTF-16, `pk2.` would not be seen.


def key_from_line(line, has_more=False):
    """The key in a line of a file, in bytes."""
    text = line.decode("utf-8", "surrogateescape")
    text = text[:-1] if text.endswith("\r") else text
    fault = line_fault(text) or (has_more and "second line") or (len(line) == LINE_LIMIT and "too long")
    if fault:
        raise KeyFault(fault)
    return read_key(text)


def key_from_input():
    """The key in a line of the standard input. On a terminal, asks for it and does not show it."""
    if not sys.stdin:
        raise Failure(FAILURE, "standard input: it is closed")
    try:
        if sys.stdin.isatty():
            line = hidden_line().encode("utf-8", "surrogatepass")
        else:
            line = sys.stdin.buffer.readline(LINE_LIMIT)
        return key_from_line(line[:-1] if line.endswith(b"\n") else line)
    except getpass.GetPassWarning:
        raise Failure(FAILURE, "standard input: this terminal would show the key; use -k FILE") from None
    except KeyFault as fault:
        raise Failure(FAILURE, f"standard input: {fault}") from None
    except UnicodeError:  # Its message has some of the key.
        raise Failure(FAILURE, f"standard input: {KeyFault('not Latin-1')}") from None
    except (OSError, EOFError) as error:
        raise Failure(FAILURE, f"standard input: {error.__class__.__name__}") from None


def hidden_line():
    """A line of the terminal, which shows again what is typed after this, even if a signal ends us."""

    def end(number, _):
        sys.exit(128 + number)

    former = {}
    # After a stop with Control-Z, the shell would have the terminal show what is typed.
    handlers = {"SIGHUP": end, "SIGQUIT": end, "SIGTERM": end, "SIGTSTP": signal.SIG_IGN}
    for name, handler in handlers.items():
        number = getattr(signal, name, None)  # Windows has only SIGTERM.
        if number and signal.getsignal(number) == signal.SIG_DFL:
            former[number] = signal.signal(number, handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # It warns, and goes on to read.
            return getpass.getpass("key (not shown): ")
    except (EOFError, UnicodeError):
        log.line("", name="")  # getpass has not ended the line of the question.
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def warn_about(key):
    if key.version == 1 and len(key.bytes) < SHORT_KEY:
        log.line(
            f"warning: the key is shorter than {SHORT_KEY} bytes and may be guessed; pyknock keygen makes a good one"
        )


# Settings of a host

SIGN_FORMS = "auto, observed, an IPv4 address such as 192.0.2.1, or an IPv6 address"
PORT_FORM = "a port number from 1 to 65535"
DURATION_FORM = "a duration such as 90, 15m, 2h or 1d, at most 366 days"
STUN_FORM = "HOST, HOST:PORT or [ADDRESS]:PORT"


def number_of(digits):
    """Ten of them are more than any number that we take. int() refuses very many."""
    return int(digits.lstrip("0")[:10] or 0)


def port_number(text):
    """As int() takes it, but only with digits and blanks of ASCII."""
    found = re.fullmatch(r"[ \t-\r]*\+?([0-9]+(_[0-9]+)*)[ \t-\r]*", text)
    number = number_of(found[1].replace("_", "")) if found else 0
    return number if 0 < number < 65536 else None


def duration_seconds(text):
    found = re.fullmatch("([0-9]+)([smhd]?)", text)
    seconds = number_of(found[1]) * {"m": 60, "h": 3600, "d": 86400}.get(found[2], 1) if found else 0
    return seconds if 0 < seconds <= 366 * 86400 else None


def stun_server(text):
    """Host and port of a STUN server, or None. It may be a URI: RFC 7064."""
    if text.startswith("stun:") and port_number(text[5:]) is None:
        text = text[5:]
    found = re.fullmatch(r"\[([^]]+)\](?::(.*))?|([^:[\]]+)(?::([^:]*))?", text, re.DOTALL)
    host, port = (found[1] or found[3], found[2] if found[1] else found[4]) if found else (text, None)
    number = 3478 if port is None else port_number(port)
    is_refused = numeric_place(host) is None if ":" in host else host_refusal(host)
    return None if not host or not number or is_refused or old_form(host) else (host, number)


class Settings:
    """What is known about a host: options, and then the sections of client.conf that are for it."""

    def __init__(self, options):
        self.host_name = None
        self.port = options.port
        # Where the key is: a tuple of the keyword and its value.
        self.key_source = None
        self.sign = options.sign
        self.stun = list(options.stun)
        self.takes_stun = not self.stun
        self.family = options.family
        self.ttl = self.answer = None

    def add(self, keyword, value):
        """Adds a line whose value is good. The first one of each keyword counts."""
        if keyword == "HostName":
            self.host_name = self.host_name or without_brackets(value)
        elif keyword == "Port":
            self.port = self.port or port_number(value)
        elif keyword in ("Key", "KeyFile"):
            self.key_source = self.key_source or (keyword, value)
        elif keyword == "Sign":
            self.sign = self.sign or value
        elif keyword == "Stun" and self.takes_stun:
            self.stun = [*self.stun, stun_server(value)][:4]
        elif keyword == "Family":
            self.family = self.family or value
        elif keyword == "Ttl":
            self.ttl = self.ttl or duration_seconds(value)
        elif keyword == "Answer":
            self.answer = self.answer or value


def key_fault(value):
    try:
        read_key(value)
    except KeyFault as fault:
        return str(fault)
    return None


def unless(condition, form):
    """What a value is not."""
    return None if condition else f"the value is not {form}"


# What is wrong with the value of each keyword of client.conf, or None. No message may have any of the value.
KEYWORDS = {
    "Host": lambda value: None,
    "HostName": lambda value: unless(host_refusal(value) is None, host_refusal(value)),
    "Port": lambda value: unless(port_number(value), PORT_FORM),
    "Key": key_fault,
    "KeyFile": lambda value: unless(value.startswith("~/") or os.path.isabs(value), "a path that begins with / or ~/"),
    "Sign": lambda value: unless(value in ("auto", "observed") or numeric_address(value), SIGN_FORMS),
    "Stun": lambda value: unless(stun_server(value), STUN_FORM),
    "Family": lambda value: unless(value in ("inet", "inet6", "any"), "inet, inet6 or any"),
    "WaitPort": lambda value: unless(port_number(value), PORT_FORM),  # Only for the other client.
    "Ttl": lambda value: unless(duration_seconds(value), DURATION_FORM),
    "Answer": lambda value: unless(value in ("yes", "no"), "yes or no"),
}


# client.conf


def home_folder():
    folder = os.environ.get("USERPROFILE" if os.name == "nt" else "HOME", "")
    return folder if os.path.isabs(folder) else None


def configuration_files():
    """The paths in the order in which they count."""
    folder = os.environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(folder):
        folder = home_folder() and os.path.join(home_folder(), ".config")
    if folder:
        yield os.path.join(folder, "pyknock", "client.conf")
    if os.name == "posix":
        yield SYSTEM_FILE


def read_configuration(path):
    """The lines of a file as pairs of a keyword and a value, all checked. Empty if it is missing."""
    name = quoted(path)
    try:
        # A pipe must not make us wait. Windows has no O_NONBLOCK.
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise Failure(FAILURE, f"{name}: Invalid argument (it is no regular file)")
            data = file.read(FILE_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise Failure(FAILURE, f"{name}: {reason(error)}") from None
    if not is_own(status) or mode_of(status) & 0o022:
        raise Failure(
            FAILURE,
            f"{name}: Permission denied (it must belong to this user or root, and only its owner may write to it)",
        )
    if len(data) > FILE_LIMIT:
        raise Failure(FAILURE, f"{name}: File too large")
    lines = []
    for number, line in enumerate(data.split(b"\n"), 1):
        try:
            lines += parse_line(line, path, status)
        except ValueError as fault:
            raise Failure(FAILURE, f"{name}:{number}: {fault}") from None
    return lines


def parse_line(line, path, status):
    """The keyword and the value of a line of client.conf, in a list that is empty for a blank line."""
    if line[:3] == b"\xef\xbb\xbf" or line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError("a byte-order mark; save the file as UTF-8 without one")
    word, value = split_line(line.decode("utf-8", "surrogateescape"))
    if not word:
        return []
    keyword = next((known for known in KEYWORDS if known.lower() == word.lower()), None)
    if keyword is None:
        raise ValueError(f"unknown keyword; keywords are {', '.join(KEYWORDS)}")
    if keyword == "Key":
        if os.path.realpath(path) == os.path.realpath(SYSTEM_FILE):
            raise ValueError(f"Key: not in {SYSTEM_FILE}; use KeyFile, or the client.conf of each user")
        if mode_of(status) & 0o077:
            raise ValueError("Key: others than the owner may read the file; chmod 600 prevents that")
    fault = KEYWORDS[keyword](value)
    if fault:
        raise ValueError(f"{keyword}: {fault}")
    return [(keyword, value)]


BLANKS = " \t\r"


def split_line(line):
    """The keyword and the value of a line. Blanks or `=` separate them; the value may be in double quotes."""
    if "\0" in line:
        raise ValueError("a NUL in the line")
    line = line.strip(BLANKS)
    if not line or line[0] == "#":
        return "", ""
    word, rest = re.fullmatch(r"([^ \t\r=]*)[ \t\r]*=?[ \t\r]*(.*)", line, re.DOTALL).groups()
    if rest.startswith('"'):
        value, quote, rest = rest[1:].partition('"')
        if not quote:
            raise ValueError("a quote that is not closed")
        if rest.strip(BLANKS) and not re.match(r"[ \t\r]+#", rest):
            raise ValueError("a quote inside quotes: leave out the outer ones")
    else:
        value = without_comment(rest)
    if not value:
        raise ValueError("a keyword without a value")
    return word, value


def without_comment(text):
    """Removes a word that begins with `#`, and all after it, unless it is between quotes of the shell."""
    quote, begins_word, hides_comment = "", True, False
    index = 0
    while index < len(text):
        character = text[index]
        if character == "#" and begins_word:
            if not quote:
                return text[:index].rstrip(BLANKS)
            hides_comment = True
        begins_word = character in BLANKS
        if character == "\\" and quote != "'":
            index += 1
        elif quote:
            if character == quote:
                quote, hides_comment = "", False
        elif character in "'\"":
            quote = character
        index += 1
    if hides_comment:  # Perhaps an apostrophe before a comment.
        raise ValueError("a quote that is not closed")
    return text


def words_of(text):
    return re.split("[ \t,]+", text.strip(" \t,"))


def matches(name, patterns):
    """Whether a name matches one of the patterns, and none of those after `!`: ssh_config(5)."""
    is_named = False
    for word in words_of(patterns):
        pattern = re.escape(word[1:] if word.startswith("!") else word)
        pattern = re.sub(r"(\\\*)+", ".*", pattern).replace(r"\?", ".")
        if re.fullmatch(pattern, name, re.DOTALL):
            if word.startswith("!"):
                return False
            is_named = True
    return is_named


def configure(settings, name):
    for path in configuration_files():
        is_for_name = True
        for keyword, value in read_configuration(path):
            if keyword == "Host":
                is_for_name = matches(name, value)
            elif is_for_name:
                settings.add(keyword, value)


def print_names():
    for path in configuration_files():
        for keyword, value in read_configuration(path):
            for word in words_of(value) if keyword == "Host" else []:
                if not re.match("!|.*[*?]", word):
                    output(word)
    return DONE


# The command line

USAGE = """\
usage: pyknock.py [OPTION]... (open | close | check) HOST [-k FILE | PSK]
       pyknock.py list"""

HELP = f"""{USAGE}

Asks the server on HOST to open or close access for this machine. HOST may be
several hosts with commas between them. check changes nothing: it says what an
open would get, and which address the server sees. list prints the names in
client.conf.

Without -k and PSK, client.conf says which key HOST has. Behind NAT the server
sees another address than this machine has, so -S must say which one to open
for. A DURATION is 90 (seconds), 15m, 2h or 1d.

Host and key:
  -c, --config NAME             read settings of NAME in client.conf
  -k, --key-file FILE           read the key from line 1 of FILE (- for stdin)
  -p, --port PORT               UDP port (default: {DEFAULT_PORT})
  -4, --ipv4                    only knock on IPv4 addresses of HOST
  -6, --ipv6                    only knock on IPv6 addresses of HOST

Addresses:
  -S, --sign-address ADDR       open or close for ADDR, auto, or observed
      --stun HOST[:PORT]        STUN server for -S auto; up to 4 times
  -s, --source-address ADDR     send from this local address

Keys of version 2:
      --ttl DURATION            ask to open for at most so long
      --answer                  wait for the answer of the server

Other:
  -n, --check                   print the knocks instead of sending them
  -v, --verbose                 log what is sent
  -h, --help                    print this help
  -V, --version                 print the version

Exit status: 0 done, 1 failure, 2 mistake in the command line, 3 HOST cannot be
resolved, 4 bad -s, 5 bad -S, 7 refused, 8 failed or no room, 9 no answer.

Example:
  pyknock.py open server.example.org -k knock.key -S 198.51.100.7
"""

# The letter and the name of each option, and of its value.
OPTIONS = [
    ("c", "config", "NAME"),
    ("k", "key-file", "FILE"),
    ("p", "port", "PORT"),
    ("4", "ipv4", None),
    ("6", "ipv6", None),
    ("S", "sign-address", "ADDR"),
    (None, "stun", "HOST[:PORT]"),
    ("s", "source-address", "ADDR"),
    (None, "ttl", "DURATION"),
    (None, "answer", None),
    ("n", "check", None),
    ("v", "verbose", None),
    ("h", "help", None),
    ("V", "version", None),
]
ELSEWHERE = ["repeat", "interval", "wait-port", "wait", "close"]


class Misuse(Failure):
    """A mistake in the command line."""

    def __init__(self, message):
        super().__init__(MISUSE, message)


def option_name(option):
    letter, name, _ = option
    return f"-{letter}/--{name}" if letter else f"--{name}"


def is_operand(argument):
    """As in argparse of Python, which the original uses. A key may begin with `-`, if it has a blank."""
    if len(argument) < 2 or argument[0] != "-":
        return True
    if argument == "--" or any(argument[1:2] == letter for letter, _, _ in OPTIONS) and len(argument) == 2:
        return False
    if re.fullmatch(r"-[0-9]+|-[0-9]*\.[0-9]+", argument):
        return True
    is_known = any(argument[1] == letter or argument[2:].partition("=")[0] == name for letter, name, _ in OPTIONS)
    return " " in argument and not is_known


def parse_arguments(arguments):
    """Options as pairs of a row of OPTIONS and a value, operands, and the first mistake. They stand in any order."""
    found, operands, mistakes = [], [], [None]
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            operands += rest
            break
        if is_operand(argument):
            operands.append(argument)
            continue
        letters = ""
        if argument.startswith("--"):
            name, equal, value = argument[2:].partition("=")
            option = next((option for option in OPTIONS if option[1] == name), None)
            value = value if equal else None
        else:
            option = next((option for option in OPTIONS if option[0] == argument[1]), None)
            value = None
            if option and option[2] and argument[2:]:
                value = argument[3:] if argument[2] == "=" else argument[2:]
            else:
                letters = argument[2:]
        if option is None:
            mistakes.append(UnknownOption(argument))
            continue
        if option[2] and value is None:
            if not rest or not is_operand(rest[0]):
                mistakes.append(Misuse(f"{option_name(option)} needs a value: {option[2]}"))
                continue
            value = rest.pop(0)
        elif value is not None and not option[2]:
            mistakes.append(Misuse(f"{option_name(option)} takes no value"))
        found.append((option, value))
        if letters:  # A cluster of flags.
            rest.insert(0, "-" + letters)
    return found, operands, mistakes[1 if len(mistakes) > 1 else 0]


class UnknownOption(Misuse):
    """The message says which only once it is known whether it may be the key."""

    def __init__(self, argument):
        super().__init__("")
        self.argument = argument

    def __str__(self):
        name = self.argument.partition("=")[0]
        if name[2:] in ELSEWHERE:
            return f"unknown option {quoted(name)}; it is one of pyknock client"
        is_letter = re.fullmatch("-[ -~]", name)
        if is_letter or log.shows_arguments:
            return f"unknown option {quoted(name) if is_letter else log.argument(name)}"
        return "unknown option (not shown, it may be the key; put -- before a key that begins with '-')"


class Options:
    def __init__(self):
        self.config = self.port = self.sign = self.source = self.key_file = self.family = self.ttl = None
        self.stun = []
        self.answer = self.only_prints = self.has_host = False

    def apply(self, option, value):
        name = option[1]
        if name == "config":
            self.config = value or None
        elif name == "key-file":
            self.key_file = value
        elif name == "port":
            self.port = self.number(option, value, port_number, PORT_FORM)
        elif name in ("ipv4", "ipv6"):
            self.family = "inet" if name == "ipv4" else "inet6"
        elif name == "sign-address":
            self.sign = value or None
        elif name == "stun":
            self.stun.append(self.number(option, value, stun_server, STUN_FORM))
            if len(self.stun) > 4:
                raise Misuse("--stun can be given up to 4 times")
        elif name == "source-address":
            self.source = value or None
        elif name == "ttl":
            self.ttl = self.number(option, value, duration_seconds, DURATION_FORM)
        elif name == "answer":
            self.answer = True
        elif name == "check":
            self.only_prints = True
        elif name == "verbose":
            log.is_verbose = True

    @staticmethod
    def number(option, value, read, form):
        number = read(value)
        if number is None:
            raise Misuse(f"{option_name(option)}: {log.argument(value)} is not {form}")
        return number


# Knocking


class Target:
    """A host to knock on, and the answer of its server."""

    def __init__(self, name, command, options, key, clock):
        self.name, self.command, self.options, self.clock = name, command, options, clock
        # A host, and a key file, of client.conf are not shown.
        self.shown = log.host(name)
        # With a HOST besides -c NAME, NAME only says which section counts.
        is_beside = options.config is not None and options.has_host
        settings = Settings(options)
        section = options.config if is_beside else name
        if key is None or options.key_file is not None:
            configure(settings, section)
        self.host, self.shown_host = name, self.shown
        if settings.host_name and not is_beside:
            self.host, self.shown_host = settings.host_name, f"the HostName for {self.shown}"
        self.port = settings.port or DEFAULT_PORT
        self.family = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(settings.family, socket.AF_UNSPEC)
        if settings.sign == "auto" and not settings.stun:
            raise Misuse("-S/--sign-address: auto needs --stun, or Stun in client.conf")
        if settings.sign != "auto" and options.stun:
            raise Misuse("--stun needs -S auto")
        warn_of_old_form("HOST", self.host)
        self.key = key or self.configured_key(settings, section)
        self.choose_version(settings)
        self.choose_address(settings)
        self.resolve()
        if self.sign == "auto":
            for version in {6 if family == socket.AF_INET6 else 4 for group in self.groups for family, _ in group}:
                public_address(self.stun, version, self.source)
        self.sockets, self.tags, self.errors = {}, set(), []
        # Sockets: those of the last requests, and those that an answer has come to.
        self.asked, self.answered = set(), set()
        self.is_asked = False
        self.result = self.result_time = self.end = None
        self.has_warned = False

    def choose_version(self, settings):
        """Takes what only a key of version 2 can do."""
        options = self.options
        if self.key.version == 1:
            given = {"check": self.command == CHECK, "--ttl": options.ttl, "--answer": options.answer}
            for name in given:
                if given[name]:
                    raise Misuse(f"{name} needs a key of version 2, and that for {self.shown} is of version 1")
            if settings.ttl or settings.answer == "yes":
                log.verbose(f"{self.shown}: Ttl and Answer do not count, since the key is of version 1")
            self.seconds, self.waits = 0, False
            return
        self.seconds = (options.ttl or settings.ttl or 0) if self.command == OPEN else 0
        wants_answer = options.answer or settings.answer == "yes" or self.command == CHECK
        self.waits = wants_answer and not options.only_prints

    def configured_key(self, settings, section):
        if settings.key_source is None:
            raise Misuse(f"no key: give PSK, -k FILE, or a Key or KeyFile for {log.host(section)} in client.conf")
        keyword, value = settings.key_source
        if keyword == "Key":
            key = read_key(value)
        else:
            if value.startswith("~/"):
                if not home_folder():
                    raise Failure(FAILURE, f"KeyFile for {log.host(section)}: the home directory is not known")
                value = home_folder() + value[1:]
            key = key_from_file(value, f"KeyFile for {log.host(section)}")
        warn_about(key)
        return key

    def choose_address(self, settings):
        """What is opened: None for the source address, "observed", "auto", or an address."""
        self.sign = settings.sign
        self.stun = tuple(settings.stun)
        if self.sign in (None, "auto", "observed"):
            return
        address = numeric_address(self.sign)
        if address is None:
            raise Failure(BAD_ADDRESS, f"signed address: {log.argument(self.sign)} is not {SIGN_FORMS}")
        if refusal(address):
            raise Failure(BAD_ADDRESS, f"signed address: no server opens for this: {refusal(address)}")
        self.sign = address

    def resolve(self):
        """Finds the addresses, first those in whose family is opened, or else those of IPv6."""
        source = self.options.source and numeric_source(self.options.source)
        try:
            places = look_up(self.host, self.port, self.family)
        except OSError as error:
            raise Failure(UNRESOLVED, f"cannot resolve {self.shown_host}: {reason(error)}") from None
        except ValueError:  # The codec for international names.
            raise Failure(UNRESOLVED, f"cannot resolve {self.shown_host}: it is no host name") from None
        has_address = isinstance(self.sign, (ipaddress.IPv4Address, ipaddress.IPv6Address))
        first = socket.AF_INET if has_address and self.sign.version == 4 else socket.AF_INET6
        places = [place for place in places if not source or place[0] == source[0]]
        self.source = source and source[1]
        # In two groups: with an address to sign, the second is for when the first cannot be reached.
        groups = [[p for p in places if (p[0] == first) == is_first][:ADDRESS_LIMIT] for is_first in (True, False)]
        self.groups = groups if has_address else [groups[0] + groups[1]]
        if not any(groups):
            raise Failure(FAILURE, f"{self.shown} has no address of the family of the source address")

    def ask(self):
        """Sends a request to each address."""
        self.errors = []
        self.asked.clear()
        self.shared = None
        for group in self.groups:
            sent = False
            for place in group:
                try:
                    sent = self.send(place) or sent
                except OSError as error:
                    source = f" from {self.source[0]}" if self.source else ""
                    needs_interface = any(lacks_interface(one) for one in (place[1], self.source) if one)
                    why = "a link-local address needs its interface, as in fe80::1%eth0"
                    why = why if needs_interface else reason(error)
                    self.errors.append(f"cannot knock on {place_text(place)}{source}: {why}")
                    log.verbose(self.errors[-1])
            if sent:
                self.is_asked = True
                break

    def send(self, place):
        """Returns false if there is no address to open for."""
        connection = self.sockets.pop(place, None) or connected_socket(place, self.source)
        try:
            return self.send_from(connection, place)
        finally:
            if self.waits:
                self.sockets[place] = connection
            else:
                connection.close()

    def send_from(self, connection, place):
        own = plain_address(socket_address(connection.getsockname()))
        address = self.address_to_sign(own)
        if address is False:
            return False
        shown = address or ipaddress.ip_address("0.0.0.0" if own.version == 4 else "::")
        text = f"{WORDS[self.command]} {shown} to {place_text(place)}"
        if self.options.only_prints:
            output(text)
            return True
        self.warn_behind_nat(address, plain_address(socket_address(place[1])))
        datagram = self.datagram(address, shown)
        try:
            connection.send(datagram)
        except OSError:  # Perhaps an ICMP error, for what was sent before. Then nothing was sent now.
            connection.send(datagram)
        if self.waits:
            self.tags.add(datagram[:32])
            self.asked.add(connection)
        log.verbose(f"sent {text}")
        return True

    def datagram(self, address, shown):
        if self.key.version == 2:
            return self.key.request(self.command, self.clock.micros(), address, self.seconds, self.waits)
        if self.sign is None or isinstance(self.sign, str):
            return self.key.request(self.command, time.time(), shown)
        # All addresses get the same bytes, so that a server with several acts once.
        self.shared = self.shared or self.key.request(self.command, time.time(), shown)
        return self.shared

    def address_to_sign(self, own):
        """The address to open for. None for the one that the server sees, False if there is none."""
        if self.sign is None:
            return None if self.command == CHECK else own
        if self.sign == "observed":
            return None
        return public_address(self.stun, own.version, self.source) if self.sign == "auto" else self.sign

    def warn_behind_nat(self, address, server):
        if self.has_warned or address is None:
            return
        is_translated = any(server in network for network in NAT64 if server.version == 6)
        if is_translated and (address.version == 6 or is_private(address)):
            self.has_warned = True
            log.line(
                f"warning: {server} is reached through NAT64, and {address} is not what the server sees: name the"
                " public IPv4 address with -S"
            )
        elif not is_translated and is_private(address) and not is_private(server):
            self.has_warned = True
            log.line(
                f"warning: {address} is a private address, {server} a public one: behind NAT, name the public address"
                " with -S"
            )

    def report_errors(self):
        """Says why nothing was sent. Returns the exit code."""
        if self.sign == "auto" and not self.errors:
            log.line("no STUN server told our public address")
            return BAD_ADDRESS
        for error in [] if log.is_verbose else self.errors:
            log.line(error)
        return FAILURE

    def take(self, connection, datagram):
        """Of an address, the first answer counts. Of all, the first but "not allowed", or else the first."""
        answer = None if connection in self.answered else self.key.open_answer(datagram, self.tags)
        if not answer:
            return
        self.answered.add(connection)
        if not self.result:
            self.end = time.monotonic() + OTHERS_PATIENCE
        elif self.result.result != NOT_ALLOWED or answer.result == NOT_ALLOWED:
            return
        self.result, self.result_time = answer, time.time()

    def is_settled(self, now):
        """Whether it has an answer that no other address can better by now."""
        return self.result and (self.result.result != NOT_ALLOWED or self.asked <= self.answered or self.end <= now)

    def report(self, prefix):
        """Prints the answer, or what failed. Returns the exit code."""
        if not self.is_asked:
            return self.report_errors()
        if not self.waits:
            return DONE
        if self.result is None:
            log.line(
                f"{self.shown}: no answer; does the server run with --answer? If so, check the clocks, the key, and"
                " the port (-p)"
            )
            return NO_ANSWER
        result, seconds, micros, address = self.result
        if result == 2:
            log.line(f"{self.shown}: not allowed for {address}: the server or the limits of the key forbid it")
            return REFUSED
        if result == 3:
            log.line(f"{self.shown}: no room for {address}: the server is busy; try again")
            return FAILED
        if result != 0:
            number = f" ({result})" if result != 1 else ""
            log.line(f"{self.shown}: failed for {address}{number}: the log of the server says why")
            return FAILED
        if self.command == OPEN:
            output(f"{prefix}open for {address} {end_text(seconds, self.result_time)}")
        elif self.command == CLOSE:
            output(f"{prefix}closed for {address}")
        else:
            difference = int(abs(self.result_time - micros / 1e6))
            clocks = f"; the clocks differ by {difference} s" if difference >= CLOCK_TOLERANCE else ""
            output(f"{prefix}good: would open for {address} {end_text(seconds, self.result_time)}{clocks}")
            self.warn_of_other_address(address)
        return DONE

    def warn_of_other_address(self, seen):
        """An open without -S names an address of this machine. The server may see another one."""
        if self.sign is not None:
            return
        own = {plain_address(socket_address(connection.getsockname())) for connection in self.sockets.values()}
        if not seen.is_unspecified and seen not in own:
            log.line(f"warning: this machine has another address than {seen}: open needs -S {seen}, or -S observed")


def numeric_source(text):
    """The family and the address of -s."""
    place = numeric_place(text)
    if not place:
        raise Failure(BAD_SOURCE, f"source address: {log.argument(text)} is not a numeric IPv4 or IPv6 address")
    return place


def connected_socket(place, source):
    """A socket that takes only what comes from this place."""
    connection = socket.socket(place[0], socket.SOCK_DGRAM)
    try:
        connection.setblocking(False)
        if source:
            connection.bind(source)
        connection.connect(place[1])
    except BaseException:
        connection.close()
        raise
    return connection


def socket_address(place):
    return ipaddress.ip_address(place[0].partition("%")[0])


def lacks_interface(place):
    return len(place) == 4 and place[3] == 0 and socket_address(place).is_link_local


def place_text(place):
    host, port = place[1][:2]
    host = host if "%" in host else plain_address(socket_address(place[1]))
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


@functools.lru_cache(maxsize=None)
def public_address(servers, version, source):
    """Our address in a family, as the first of the STUN servers says that answers; False if none does: RFC 8489.

    Beyond NAT each local address may have another one, so it matters from which one we ask.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    sockets = []
    for host, port in servers:
        with contextlib.suppress(OSError, ValueError):
            sockets += [connected_socket(place, source) for place in look_up(host, port, family)[:2]]
    request = struct.pack(">HHI", 1, 0, STUN_COOKIE) + secrets.token_bytes(12)
    start = time.monotonic()
    with contextlib.ExitStack() as stack:
        for connection in sockets:
            stack.enter_context(connection)
        for moment in STUN_MOMENTS:
            for connection in sockets:
                with contextlib.suppress(OSError):
                    connection.send(request)
            while sockets and time.monotonic() < start + moment:
                for connection in select.select(sockets, [], [], max(0, start + moment - time.monotonic()))[0]:
                    with contextlib.suppress(OSError):
                        address = stun_address(connection.recv(2048), request[4:])
                        if address and address.version == version and not refusal(address):
                            return address
    return False


STUN_COOKIE = 0x2112A442
STUN_MOMENTS = 0.5, 1.5, 3.5, 5  # When to ask again, and in the end to give up.


def stun_address(data, transaction):
    """The address in XOR-MAPPED-ADDRESS of a response, or None."""
    if data[:2] != b"\x01\x01" or data[4:20] != transaction or len(data) != 20 + struct.unpack(">H", data[2:4])[0]:
        return None
    place = 20
    while place + 4 <= len(data):
        kind, size = struct.unpack(">HH", data[place : place + 4])
        value = data[place + 4 : place + 4 + size]
        if kind == 0x20 and (len(value), value[1:2]) in ((8, b"\x01"), (20, b"\x02")):
            return plain_address(ipaddress.ip_address(xor(value[4:], transaction)))
        place += 4 + (size + 3) // 4 * 4
    return None


def received(connection):
    """The datagrams that have come. Not without end: others may send them faster than we read."""
    for _ in range(1000):
        try:
            yield connection.recv(2048)
        except BlockingIOError:
            return
        except OSError:  # An ICMP error. On Windows that is ECONNRESET, or EMSGSIZE for a long datagram.
            continue


def time_since_boot():
    """Seconds of a clock that nobody sets, and that also runs while the machine sleeps.

    CLOCK_MONOTONIC of macOS and iOS does that, too, and time.monotonic of Windows. Of other systems without
    CLOCK_BOOTTIME we do not know. If it stands still there, we may ask again after a sleep, and the server may run its
    command once more. The clock that users set would end the wait at each step.
    """
    number = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic() if number is None else time.clock_gettime(number)


def ask_until_answered(targets):
    """Asks, and again each second, until each target that waits has an answer, or was asked ten times."""
    for _ in range(ASKS):
        start = time_since_boot()
        for target in targets:
            if not target.result:
                target.ask()
        targets = [target for target in targets if target.waits and target.is_asked]
        targets = unsettled(targets, time.monotonic() + ASK_INTERVAL)
        # If this process was stopped since it began to ask, asking again might run a command twice.
        if not targets or time_since_boot() - start >= REPEAT_LIMIT:
            break
    unsettled([target for target in targets if target.result], time.monotonic() + OTHERS_PATIENCE)


def unsettled(targets, end):
    """Takes what comes, and returns the targets that still wait at the end."""
    while True:
        now = time.monotonic()  # Before we take: what came while this process was stopped counts.
        waiting = {connection: target for target in targets for connection in target.sockets.values()}
        for connection, target in waiting.items():
            for datagram in received(connection):
                target.take(connection, datagram)
        targets = [target for target in targets if not target.is_settled(now)]
        if not targets or end <= now:
            return targets
        moment = min([end, *(target.end for target in targets if target.result)])
        moment = moment if len(waiting) <= SELECT_LIMIT else min(moment, now + FULL_PAUSE)
        select.select(list(waiting)[:SELECT_LIMIT], [], [], max(0, moment - time.monotonic()))


def divided(text):
    names = text.split(",")
    if "" in names or len(names) > HOST_LIMIT:
        raise Misuse(f"HOST: {log.argument(text)} is not one host, or up to {HOST_LIMIT} with commas between them")
    return names


def operands_misuse(operands):
    word = operands[0] if operands else ""
    if word in COMMANDS:
        advice = f"write {word} HOST, and -k FILE for the key"
    elif word == "list":
        advice = "write list alone"
    elif word:
        shown = quoted(word) if re.fullmatch("[a-z]{1,15}", word) else log.argument(word)
        return Misuse(f"COMMAND: {shown} is not open, close, check or list")
    else:
        advice = "write open HOST, close HOST, check HOST, or list"
    return Misuse(f"{advice}; operands given: {len(operands)}")


def run(arguments):
    found, operands, mistake = parse_arguments(arguments)
    names = [name for (_, name, _), _ in found]
    for name in names:
        if name in ("help", "version"):
            output(HELP[:-1] if name == "help" else f"pyknock.py {VERSION}")
            return DONE
    log.shows_arguments = "key-file" in names or "config" in names
    if mistake:
        raise mistake
    options = Options()
    for option, value in found:
        options.apply(option, value)
    word = operands[0] if operands else ""
    if word == "list" and len(operands) == 1:
        return print_names()
    takes_key = options.key_file is None and options.config is None
    least, most = (2, 3) if takes_key else (2 if options.config is None else 1, 2)
    if word not in COMMANDS or not least <= len(operands) <= most:
        raise operands_misuse(operands)
    if options.ttl and word != "open":
        raise Misuse("--ttl needs open")
    options.has_host = len(operands) > 1
    hosts = [without_brackets(host) for host in divided(operands[1] if options.has_host else options.config)]
    for host in hosts if options.has_host else []:
        if host_refusal(host):
            raise Misuse(f"HOST: {log.argument(host)} is not {host_refusal(host)}")
    if options.source:
        warn_of_old_form("source address", options.source)
    return knock_on(hosts, COMMANDS[word], options, common_key(options, operands))


def knock_on(hosts, command, options, key):
    """Knocks on all hosts that can be knocked on. Returns the greatest exit code."""
    codes, targets, clock = [DONE], [], Clock()
    for host in hosts:
        try:
            targets.append(Target(host, command, options, key, clock))
        except Failure as failure:
            codes.append(report(failure))
    ask_until_answered(targets)
    for target in targets:
        try:
            codes.append(target.report(f"{target.name}: " if len(hosts) > 1 else ""))
        except Failure as failure:
            codes.append(report(failure))
    return max(codes)


def common_key(options, operands):
    """The key that the command line gives for all hosts, or None."""
    if len(operands) > 2:
        try:
            key = read_key(operands[2])
        except KeyFault as fault:
            raise Misuse(f"PSK: {fault}") from None
        log.line("warning: a key in the command line shows in ps and the history; use -k FILE")
        if re.search(r"[/\\]", operands[2]) or os.path.exists(operands[2]):
            log.line("warning: PSK looks like the name of a file, but is itself the key; to read FILE, write -k FILE")
    elif options.key_file == "-":
        key = key_from_input()
    elif options.key_file is not None:
        path = options.key_file
        is_path = (re.search(r"[/\\]", path) or os.path.exists(path)) and "pk2." not in path.lower()
        shown = quoted(path) if is_path else "(not shown, it may be the key itself)"
        key = key_from_file(path, f"key file {shown}")
    else:
        return None
    warn_about(key)
    return key


def report(failure):
    log.line(failure)
    if failure.code == MISUSE:
        log.line(USAGE, name="")
    return failure.code


def forbid_core_dumps():
    """They would have the key."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource  # Windows has none.

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main(arguments=None):
    forbid_core_dumps()
    try:
        return run(sys.argv[1:] if arguments is None else arguments)
    except Failure as failure:
        return report(failure)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
