# SPDX-License-Identifier: GPL-2.0-or-later
"""TAP output of tests in Python, which must print through it."""

import sys

from repo import TOP                    # noqa: F401
from hphost.paths import build_dir      # noqa: F401


class Tap:
    """Counts results; end() prints the plan and leaves with the status."""

    def __init__(self):
        self.count = self.bad = 0

    def result(self, good, name, details=""):
        self.count += 1
        if not good:
            self.bad += 1
            for line in str(details).rstrip().splitlines():
                print("# " + line)
        print("%sok %d - %s" % ("" if good else "not ", self.count, name),
              flush=True)

    def skip(self, name, why):
        self.count += 1
        print("ok %d - %s # SKIP %s" % (self.count, name, why), flush=True)

    def end(self):
        print("1..%d" % self.count)
        sys.exit(1 if self.bad else 0)
