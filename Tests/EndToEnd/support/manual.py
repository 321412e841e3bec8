"""The pages of the manual."""

import re

from support.programs import ROOT, run

PAGES = {path.name: path.read_text() for path in sorted((ROOT / "man").iterdir())}
PAGE_OF = {
    "server": "pyknock-server.8",
    "client": "pyknock-client.1",
    "keygen": "pyknock-keygen.1",
    "status": "pyknock-status.8",
}


def section(page, name):
    return re.search(rf"^\.Sh {name}\n(.*?)(?=^\.Sh |\Z)", PAGES[page], re.M | re.S)[1]


def literal_blocks(text):
    """The literal text in a part of a page."""
    found = re.findall(r"^\.Bd -literal.*?\n(.*?)^\.Ed", text, re.M | re.S)
    return [block.replace("\\e\n", "\\\n") for block in found]


def shown(page):
    """What mandoc shows of a page, in one line."""
    text = run(["mandoc", "-T", "ascii", "-O", "width=1000", str(ROOT / "man" / page)]).stdout
    return " ".join(re.sub(".\\x08", "", text).split())
