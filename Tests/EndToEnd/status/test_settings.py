"""Where the status takes the settings of the server from."""

import pytest
from support.firewall import only_nft
from support.programs import program, run

pytestmark = pytest.mark.usefixtures("not_emulated")
NOTHING = (
    "the server's settings: no state and no sets: write -f FILE, --state, --nft or --ipset, "
    "or make /etc/pyknock/server.conf"
)


def in_place_of_etc(folder):
    """A prefix: /etc/pyknock is this folder."""
    script = f'mount -t tmpfs none /etc; mkdir /etc/pyknock; mount --bind {folder} /etc/pyknock; exec "$@"'
    return ["unshare", "--mount", "sh", "-ec", script, "sh"]


def test_the_file_of_the_packages_is_read_if_no_option_names_settings(journal, tmp_path):
    etc = tmp_path / "etc"
    etc.mkdir()
    result = run([*in_place_of_etc(etc), *program("status")])
    assert (result.code, result.lines[0]) == (2, f"pyknock status: {NOTHING}")
    (etc / "server.conf").write_text(f"state {journal.path}\nkey-file /nowhere\nopen-command true\n")
    journal.start()
    result = run([*in_place_of_etc(etc), *program("status")])
    assert (result.code, result.lines) == (0, [])
    (etc / "server.conf").write_text("nonsense 1\n")
    result = run([*in_place_of_etc(etc), *program("status"), "--state", journal.path])
    assert (result.code, result.lines) == (0, [])
    result = run([*in_place_of_etc(etc), *program("status")])
    assert result.code == 1
    assert result.lines[0].startswith("pyknock status: '/etc/pyknock/server.conf':1: 'nonsense' is not ")


@only_nft
def test_an_option_overrides_the_file(firewall, status, tmp_path):
    firewall.load_example()
    conf = tmp_path / "server.conf"
    conf.write_text("nft inet/other/x\nttl 1h\n")
    code, _, errors = status("-f", conf, "--nft=inet/pyknock/knock4")
    assert code == 4
    assert errors == ["pyknock status: no --state: it is not known whether the server runs, and what is ours"]
    code, _, errors = status("-f", conf)
    assert code == 1
    assert errors[1].startswith("pyknock status: there is no table inet other; to make it: ")
    missing = run([*program("status"), "-f", tmp_path / "missing"])
    assert (missing.code, missing.lines) == (
        1, [f"pyknock status: '{tmp_path}/missing': No such file or directory"]
    )  # fmt: skip
