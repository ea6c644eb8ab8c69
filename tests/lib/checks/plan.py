# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to build and to run, and what each will cost.

Meson knows the tests and what they need; tests/costs says how many seconds
each takes and how many processors are to be kept for it.  Seconds that were
measured in this build directory go before that.  Costs decide the order and the
time that is said to be left, never a result.
"""

import json
import os
import re
import subprocess

TESTS = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
# Of what the table does not name: mostly it is done at once.
UNKNOWN = (5.0, 0.9)
# Seconds of a test that is not worth being made to wait.
SHORT = 20


def _read(path):
    """Name to numbers of a table; {} when there is none."""
    table = {}
    try:
        with open(path, encoding="utf-8") as f:
            for line in f:
                match = re.match(r"([a-z][\w -]*?)((?:\s+[\d.]+)+)\s*$", line)
                if match:
                    table[match.group(1)] = tuple(
                        float(n) for n in match.group(2).split())
    except FileNotFoundError:
        pass
    return table


class Cost:
    """Seconds and processors, by name; builds are called "build TARGET"."""

    def __init__(self, builddir):
        self._path = os.path.join(builddir, "checks/seconds")
        self._table = _read(os.path.join(TESTS, "costs"))
        self._measured = _read(self._path)

    def of(self, name):
        seconds, cpus = self._table.get(name, UNKNOWN)
        return self._measured.get(name, (seconds,))[0], cpus

    def measured(self, name, seconds):
        self._measured[name] = (seconds,)
        with open(self._path + ".new", "w", encoding="utf-8") as f:
            for key, (value,) in sorted(self._measured.items()):
                f.write("%-40s %7.1f\n" % (key, value))
        os.replace(self._path + ".new", self._path)


class Build:
    """A target of ninja's that tests need."""

    def __init__(self, target, output, builddir, cost):
        self.name = "build " + re.sub(r"^.*@@|@\w+$", "", target)
        # As ninja calls it.
        self.path = os.path.relpath(output, os.path.realpath(builddir))
        self.seconds, self.cpus = cost.of(self.name)
        # To be looked at once more, but most likely up to date.
        self.cached = os.path.exists(output)


class Test:
    """One test as meson describes it."""

    def __init__(self, record, builds, cost):
        self.name = record["name"]
        self.suites = [s.rpartition(":")[2] for s in record["suite"]]
        self.command = record["cmd"]
        self.env = record["env"]
        self.timeout = record["timeout"]
        self.needs = [builds[d] for d in record["depends"] if d in builds]
        self.seconds, self.cpus = cost.of(self.name)

    @property
    def title(self):
        return "%s: %s" % (self.suites[0], self.name)

    @property
    def waits(self):
        """It only gets what others leave: one thread, and a long way to go."""
        return self.cpus < 1 and self.seconds > SHORT


def _introspect(builddir, what):
    out = subprocess.run(["meson", "introspect", builddir, what], check=True,
                         stdout=subprocess.PIPE, text=True).stdout
    return json.loads(out)


def load(builddir, cost):
    """Every test, with the builds that it needs."""
    builds = {}
    for target in _introspect(builddir, "--targets"):
        builds[target["id"]] = Build(target["id"], target["filename"][0],
                                     builddir, cost)
    return [Test(record, builds, cost)
            for record in _introspect(builddir, "--tests")]


def by_scale(tests, names, scale):
    """(those to run, those of the suite "full" that nobody named)."""
    if scale == "full":
        return tests, []

    def wanted(test):
        return "full" not in test.suites or {"full", test.name} & set(names)

    return ([t for t in tests if wanted(t)],
            [t for t in tests if not wanted(t)])


def choose(tests, names):
    """(the tests that names ask for, the names that ask for nothing)."""
    if not names:
        return tests, []
    chosen = [t for t in tests
              if t.name in names or set(t.suites) & set(names)]
    known = {t.name for t in tests} | {s for t in tests for s in t.suites}
    return chosen, [n for n in names if n not in known]
