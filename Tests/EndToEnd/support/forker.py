"""forker.py SCRIPT: runs a Python program many times, and starts Python and reads its modules only once.

Each line of the standard input is one run: its arguments, environment and folder, and the files for its standard
streams. The answer is a line with the exit code. A run is a process of its own. It changes nothing for the next one.
"""

import importlib
import json
import os
import sys
import time

SCRIPT = sys.argv[1]
FOLDER, NAME = os.path.split(SCRIPT)


def become(run):
    """Makes this process what a new one would be."""
    os.environ.clear()
    os.environ.update(run["environment"])
    time.tzset()
    os.chdir(run["folder"])
    for number, path in enumerate(run["streams"]):
        file = os.open(path, os.O_RDWR)
        os.dup2(file, number)
        os.close(file)
    sys.argv = [SCRIPT, *run["arguments"]]


def main_program():
    """Forks for each line. Returns the code of the program that this process has to run."""
    sys.path[0] = FOLDER
    importlib.import_module(NAME[: -len(".py")])
    with open(SCRIPT, encoding="utf-8") as file:
        code = compile(file.read(), SCRIPT, "exec")
    # Nothing may be left in a buffer that all runs would have.
    with os.fdopen(os.dup(0), "rb", buffering=0) as lines:
        while line := lines.readline():
            process = os.fork()
            if process == 0:
                run = json.loads(line)
                become(run)
                return compile(run["program"], "<string>", "exec") if run["program"] else code
            status = os.waitpid(process, 0)[1]
            result = os.WEXITSTATUS(status) if os.WIFEXITED(status) else -os.WTERMSIG(status)
            os.write(1, b"%d\n" % result)
    sys.exit()


code = main_program()
__file__ = SCRIPT
exec(code)
