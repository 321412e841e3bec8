"""The directory of --keys, and servers with users."""

from support.requests import key_text
from support.state import Journal


class UserFiles:
    """A directory with a file for each user."""

    def __init__(self, path):
        self.path, self.option = path, f"--keys={path}"
        path.mkdir(mode=0o700)

    def set(self, name, *limits, key=None):
        """Makes or replaces the file of a user. Returns the key."""
        key = key or self.key(name)
        file = self.path / f".{name}"
        file.write_text("\n".join([key, *limits, ""]))
        file.chmod(0o600)
        file.rename(self.path / name)
        return key

    @staticmethod
    def key(name):
        return f"the key of {name}, that is long enough"

    def remove(self, name):
        (self.path / name).unlink()


def many_users(path, count):
    """A directory with the users user0, user1, and so on, of version 2."""
    users = UserFiles(path)
    for number in range(count):
        users.set(f"user{number}", key=key_text(f"user{number}"))
    return users


class Team(Journal):
    """A journal of servers with the users alice and bob."""

    def __init__(self, make, folder):
        super().__init__(make, folder)
        self.command = f"echo $cmd $ip $PYKNOCK_USER >> {self.done}"
        self.users = UserFiles(folder / "keys")
        for name in ("alice", "bob"):
            self.users.set(name)

    def start(self, *options, **more):
        words = [more.pop("on_open", self.command), more.pop("on_close", self.command)]
        return super().start(self.users.option, "-v", *options, on_open=None, words=words, **more)
