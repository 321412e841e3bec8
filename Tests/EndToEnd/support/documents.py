"""The commands in documents."""

import re
import textwrap

from support.programs import ROOT


class Document:
    def __init__(self, path):
        self.text = (ROOT / path).read_text()

    def blocks(self, heading):
        """The blocks of code in a part of the document."""
        [part] = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", self.text, re.MULTILINE | re.DOTALL)
        return [textwrap.dedent(text) for text in re.findall(r"^ *```\w*\n(.*?)^ *```", part, re.MULTILINE | re.DOTALL)]
