"""What the server does if the kernel, or the filter of a container, refuses parts of the sandbox."""

import errno
import os
import platform
import re

import pytest
from support.datagrams import KEY
from support.processes import NOBODY, answering, as_nobody
from support.programs import EMULATED, PYKNOCK, program, run

with open(PYKNOCK[-1], "rb") as file:
    MACHINE = int.from_bytes(file.read(20)[18:], "little")
EM_X86_64 = 62
pytestmark = pytest.mark.skipif(
    EMULATED or MACHINE != EM_X86_64 or platform.machine() != "x86_64", reason="has call numbers of x86_64"
)

# asm/unistd_64.h
PRCTL, CHROOT, SETUID, SETGID, SETGROUPS, CAPGET, CAPSET = 157, 161, 105, 106, 116, 125, 126
PRLIMIT, SETRLIMIT, CREATE_RULESET, RESTRICT_SELF = 302, 160, 444, 446
# linux/prctl.h
DUMPABLE, KEEP_CAPABILITIES, SECCOMP, DROP_FROM_BOUNDS, NO_NEW_PRIVILEGES = 4, 8, 22, 24, 38

HINT = "; --no-sandbox starts without it"
NO_LANDLOCK = r"the receiver has no capabilities, no Landlock \(.+\), few system calls \(seccomp\)"
NO_SECCOMP = r"the receiver has no capabilities, no files \(Landlock\), no seccomp \(.+\)"


def refusing(*refusals):
    def refuse():
        for refusal in refusals:
            answering(*refusal)

    return refuse


def outcome(*options, words=("true", "true"), refuse):
    """Runs a server that does not start."""
    words = [*program("server"), "-p60117", "-k", "-", *options, *words]
    result = run(words, stdin=KEY.encode(), preexec_fn=refuse)
    assert result.code == 1
    return result.lines


ERRORS = [errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    "call, shown",
    [((CREATE_RULESET,), NO_LANDLOCK), ((RESTRICT_SELF,), NO_LANDLOCK), ((PRCTL, SECCOMP), NO_SECCOMP)],
)
def test_without_landlock_or_seccomp_it_warns(server, call, shown, error):
    ours = server("-q", wait=False, preexec_fn=refusing((error, *call)))
    ours.log.wait_for(f"^pyknock server: warning: sandbox: {shown}$")
    assert len(ours.log.lines) == 1
    ours.knock()
    ours.output.wait_for("^open")


@pytest.mark.parametrize("error", ERRORS)
def test_without_both_it_does_not_start(server, error):
    refuse = refusing((error, CREATE_RULESET), (error, PRCTL, SECCOMP))
    for words in (("true", "true"), ("", "")):
        lines = outcome("-q", words=words, refuse=refuse)
        why = rf"\({os.strerror(error)}\)" if error != errno.EOPNOTSUPP else r"\(.+\)"
        assert re.fullmatch(
            rf"pyknock server: sandbox: the receiver has no capabilities, no Landlock {why}, no seccomp {why}"
            + HINT,
            lines[0],
        )
        assert lines[1:] == ["pyknock server: the receiver ended: exit status 1"]
    ours = server("--no-sandbox", preexec_fn=refuse)
    ours.knock()
    ours.output.wait_for("^open")


@pytest.mark.parametrize(
    "layer, call",
    [
        ("capabilities", (CAPSET,)),
        ("capabilities", (CAPGET,)),
        ("capabilities", (PRCTL, DROP_FROM_BOUNDS)),
        ("no new privileges", (PRCTL, NO_NEW_PRIVILEGES)),
        ("PR_SET_DUMPABLE", (PRCTL, DUMPABLE)),
        ("limits", (PRLIMIT,)),
    ],
)
def test_a_privilege_that_cannot_be_dropped(server, layer, call):
    for error in (errno.EPERM, errno.EINVAL, errno.ENOSYS):
        # The C library may use another call instead.
        refuse = refusing((error, SETRLIMIT), (error, *call))
        line = f"pyknock server: sandbox: {layer}: {os.strerror(error)}{HINT}"
        for words in (("true", "true"), ("", "")):
            assert outcome("-q", words=words, refuse=refuse)[0] == line
    server("--no-sandbox", preexec_fn=refuse)


@pytest.mark.other_users
@pytest.mark.parametrize(
    "option, call",
    [
        (f"--user={NOBODY}", (SETUID,)),
        (f"--user={NOBODY}", (SETGID,)),
        (f"--user={NOBODY}", (SETGROUPS,)),
        (f"--user={NOBODY}", (PRCTL, KEEP_CAPABILITIES)),
        ("--chroot=/", (CHROOT,)),
    ],
)
def test_another_user_or_root_directory_that_is_refused(option, call):
    for more in ([], ["--no-sandbox"]):
        for words in (("true", "true"), ("", "")):
            lines = outcome("-q", option, *more, words=words, refuse=refusing((errno.EPERM, *call)))
            assert f"pyknock server: {option.split('=')[0]}: {os.strerror(errno.EPERM)}" in lines


@pytest.mark.other_users
@pytest.mark.parametrize(
    "call, step",
    [((SETUID,), "--user"), ((SETGID,), "--user"), ((CAPSET,), "sandbox: capabilities")],
)
def test_a_kernel_that_only_pretends(call, step):
    """Builders of containers answer such calls with success."""
    for words in (("true", "true"), ("", "")):
        lines = outcome("-q", f"--user={NOBODY}", words=words, refuse=refusing((0, *call)))
        assert lines[0].startswith(f"pyknock server: {step}: {os.strerror(errno.EPERM)}")


def test_an_ordinary_user_has_no_capability_to_drop(server):
    """So there is nothing to warn of."""
    ours = server("-q", prefix=as_nobody(), wait=False)
    ours.wait_until_ready()
    ours.knock()
    ours.output.wait_for("^open")
    assert ours.log.lines == []
