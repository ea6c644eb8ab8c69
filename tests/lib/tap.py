# SPDX-License-Identifier: GPL-2.0-or-later
"""TAP output of tests in Python, which must print all results through it."""

import re
import sys

from repo import TOP                    # noqa: F401
from hphost.paths import build_dir      # noqa: F401


class Tap:
    """Counts results; end() prints the plan and leaves with the status."""

    def __init__(self):
        self.count = self.failed = 0

    def result(self, good, name, details=""):
        """Details are only told of a failure."""
        self.count += 1
        self.failed += not good
        print(f'{"" if good else "not "}ok {self.count} - {name}', flush=True)
        if not good:
            self.note(details)

    def skip(self, name, why):
        self.result(True, f"{name} # SKIP {why}")

    def note(self, text):
        for line in str(text).rstrip().splitlines():
            print(f"# {line}", flush=True)

    def forward(self, line):
        """A line that another test has printed: a result gets our number."""
        match = re.match(r"(not )?ok\b[ \d]*(?:- )?(.*)", line)
        if match:
            bad, name = match.groups()
            skipped = re.search(r"\s#\s*skip\b", name, re.I)
            self.result(not bad or skipped, name)
        else:
            print(line.rstrip("\n"), flush=True)

    def end(self):
        print(f"1..{self.count}", flush=True)
        sys.exit(1 if self.failed else 0)
