"""--user and --chroot: what they take."""

import os

import pytest
from support.datagrams import KEY
from support.processes import NOBODY, as_nobody, status_of
from support.programs import program, run


@pytest.mark.parametrize("user", ["", "nosuchuser", "-1", "77:", ":77", "77:x", "4294967295", "7 8:9"])
def test_a_user_that_is_none_is_misuse(user):
    result = run([*program("server"), "-k", "-", f"--user={user}", "", ""], stdin=KEY.encode())
    assert result.code == 2
    assert result.lines[0] == (
        f"pyknock server: --user: '{user}' is not a user of this system, UID, or UID:GID"
    )


@pytest.mark.other_users
@pytest.mark.usefixtures("not_emulated")
def test_users_are_those_of_etc_passwd(server, namespace, tmp_path):
    users = tmp_path / "passwd"
    users.write_text(
        "root:x:0:0:root:/root:/bin/sh\n\n:x:5:5\nshort:x:6\nword:x:six:6::\nnone:x:4294967295:6::\n"
        "alice:x:1234:4321:,,,:/home/alice:/bin/sh\nalice:x:1:1::\n77:x:78:79::\nlast:x:8:9"
    )
    namespace.run(f"mount --bind {users} /etc/passwd")
    try:
        for user, ids in {"alice": "1234:4321", "77": "78:79", "last": "8:9", "78": "78:78"}.items():
            ours = server("--user", user, on_open="", network=namespace)
            shown = status_of(ours.receiver)
            assert ":".join(shown[name].split()[0] for name in ("Uid", "Gid")) == ids
        for user in ("", "short", "word", "none", "alic", "alice:x", "alice:4321"):
            words = [*namespace.prefix, *program("server"), "-k", "-", f"--user={user}", "", ""]
            assert run(words, stdin=KEY.encode()).code == 2
        # The file may be long, and need not belong to root.
        users.write_text(100_000 * "#\n" + users.read_text())
        users.chmod(0o664)
        os.chown(users, NOBODY, NOBODY)
        server("--user=alice", on_open="", network=namespace)
    finally:
        namespace.run("umount /etc/passwd")


def test_a_root_directory_that_is_none_or_not_of_root_alone(tmp_path):
    (tmp_path / "file").touch()
    tmp_path.chmod(0o777)
    places = {
        "/nonexistent": "No such file or directory",
        tmp_path / "file": "Not a directory",
        tmp_path: "Permission denied (it must belong to root, and only root may write in it)",
    }
    for options in ([], ["-n"]):
        for place, why in places.items():
            words = [*program("server"), "-k", "-", f"--chroot={place}", *options, "", ""]
            result = run(words, stdin=KEY.encode())
            assert result.code == 1
            assert result.lines[-1] == f"pyknock server: --chroot: '{place}': {why}"


@pytest.mark.other_users
def test_who_is_not_root_cannot_become_another_user():
    words = [*as_nobody(), *program("server"), "-p60118", "-k", "-", "--user=77", "", ""]
    for options in ([], ["-n"]):
        result = run([*words, *options], stdin=KEY.encode())
        assert result.code == 1
        assert result.lines[-1] == "pyknock server: --user: Operation not permitted"
