"""The files that `make release` makes, in a copy of this checkout."""

import re
import shutil
import tarfile

import packed
import pytest
from packed import ARCHITECTURES, DEBIAN, ROOT, RPM, VERSION, run

FILES = {
    *(f"pyknock-{VERSION}-linux-{name}" for name in ARCHITECTURES),
    *(f"pyknock_{VERSION}_openwrt_{name}.ipk" for name in ARCHITECTURES),
    *(f"pyknock_{VERSION}_{name}.deb" for arch in ARCHITECTURES for name in DEBIAN[arch]),
    *(f"pyknock-{VERSION}-1.{name}.rpm" for name in RPM.values()),
    f"pyknock-{VERSION}-copyright",
    f"pyknock-{VERSION}-openwrt.tar.gz",
    f"pyknock-{VERSION}.spdx.json",
}
NOTE = "SHA256SUMS is not signed; to sign it: MINISIGN_KEY=FILE make release"


@pytest.fixture(scope="module")
def cloned(tmp_path_factory):
    return packed.checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture
def checkout(cloned):
    """A clean checkout. dist/ has a file that must not become part of a release."""
    run("git", "reset", "--quiet", "--hard", "start", cwd=cloned)
    run("git", "clean", "--quiet", "--force", "-d", cwd=cloned)
    shutil.rmtree(cloned / "dist", ignore_errors=True)
    (cloned / "dist").mkdir()
    (cloned / "dist/pyknock-0.9.9-old").touch()
    return cloned


def refused(checkout, **env):
    result = run("packaging/release", cwd=checkout, env=env, check=False)
    assert result.returncode == 1
    assert [path.name for path in (checkout / "dist").iterdir()] == ["pyknock-0.9.9-old"]
    return result.stdout


def test_not_from_a_checkout_with_changes(checkout):
    (checkout / "README.md").write_text("changed\n")
    (checkout / "new").touch()
    assert refused(checkout) == "release: the checkout is not clean: 2 files differ from the last commit\n"


@pytest.mark.parametrize("heading", ["## 9.9.9 - 2026-11-25", f"## {VERSION}", f"## {VERSION} - soon"])
def test_not_when_the_list_of_changes_is_of_another_version(checkout, heading):
    text = (checkout / "CHANGELOG.md").read_text()
    (checkout / "CHANGELOG.md").write_text(re.sub("^## .*", heading, text, count=1, flags=re.M))
    packed.commit(checkout, "--quiet", "--message=Heading")
    assert refused(checkout) == f"release: CHANGELOG.md begins with '{heading}', not with '## {VERSION} - DATE'\n"


def test_not_without_the_key_that_is_to_sign(checkout):
    key = checkout / "nowhere/key"
    assert refused(checkout, MINISIGN_KEY="nowhere/key") == f"release: cannot read MINISIGN_KEY: {key}\n"


def test_release(checkout, tmp_path):
    # Builds all again except the libraries, which would be the same.
    (checkout / ".build-cross").mkdir()
    for path in (ROOT / ".build-cross").glob("*-*"):
        if path.is_dir():
            run("cp", "--archive", path, checkout / ".build-cross")

    log = run("packaging/release", cwd=checkout, timeout=1800)
    assert log.splitlines()[-1] == NOTE
    first = {path.name: path.read_bytes() for path in (checkout / "dist").iterdir()}
    assert set(first) == FILES | {"SHA256SUMS"}
    checked = run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=checkout / "dist")
    assert set(checked.splitlines()) == {f"{name}: OK" for name in FILES}
    for path in (ROOT / "dist").glob(f"pyknock-{VERSION}-linux-*"):
        assert first[path.name] == path.read_bytes(), path.name
    with tarfile.open(checkout / f"dist/pyknock-{VERSION}-openwrt.tar.gz") as tar:
        assert {f"pyknock-{VERSION}-openwrt/{name}" for name in ("Makefile", "architectures")} < set(tar.getnames())

    # The second release is signed. Its umask, time zone and file times differ.
    (checkout / "packaging/openwrt/Makefile").touch()
    key, public = tmp_path / "secret", tmp_path / "public"
    run("minisign", "-G", "-W", "-s", key, "-p", public)
    environment = {"MINISIGN_KEY": str(key), "TZ": "Asia/Tokyo"}
    run("packaging/release", cwd=checkout, timeout=1800, umask=0o077, env=environment)
    second = {path.name: path.read_bytes() for path in (checkout / "dist").iterdir()}
    assert second.pop("SHA256SUMS.minisig")
    assert {name for name in first | second if first.get(name) != second.get(name)} == set()
    verify = ["minisign", "-V", "-m", "SHA256SUMS", "-P", public.read_text().splitlines()[1]]
    assert f"Trusted comment: pyknock {VERSION}\n" in run(*verify, cwd=checkout / "dist")
    with open(checkout / "dist/SHA256SUMS", "a") as sums:
        sums.write("\n")
    assert run(*verify, cwd=checkout / "dist", check=False).returncode == 1
