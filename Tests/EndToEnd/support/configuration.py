"""server.conf in a file of the test's own."""

from support.programs import program, run

COMMANDS = "open-command echo $cmd $ip\nclose-command echo $cmd $ip\n"


class ServerConf:
    """A configuration file that names the key file unless `key` says otherwise."""

    def __init__(self, path, key_file):
        self.path, self.key_file = path, key_file

    def write(self, text, key=None):
        self.path.write_text((f"key-file {self.key_file}\n" if key is None else key) + text)
        self.path.chmod(0o600)

    def check(self, *more):
        return run([*program("server"), "-n", "-f", str(self.path), *more])

    def fails(self, *more):
        """The line that says what is wrong."""
        result = self.check(*more)
        assert (result.code, result.stdout) == (1, "")
        [line] = result.lines
        return line.removeprefix("pyknock server: ")
