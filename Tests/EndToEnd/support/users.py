"""The directory of --keys."""


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
