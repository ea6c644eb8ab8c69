# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to build and to run, and what each will cost.

Meson knows the tests and what they need; tests/costs says how many seconds
each took and how many processors it kept busy, on two idle ones.  What was
measured in this build directory goes before that.  Costs decide the order and
the time that is said to be left, never a result.
"""

import json
import os
import re
import subprocess

TESTS = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))
# Of what nobody has measured yet.
UNKNOWN = (30.0, 1.0)


class Cost:
    """Seconds and processors, by name; builds are called "build TARGET"."""

    def __init__(self, builddir):
        self._measured = os.path.join(builddir, "checks/costs")
        self._table = {}
        for path in (os.path.join(TESTS, "costs"), self._measured):
            try:
                with open(path, encoding="utf-8") as f:
                    self._read(f)
            except FileNotFoundError:
                pass

    def _read(self, lines):
        for line in lines:
            words = line.split("#")[0].split()
            if words:
                self._table[" ".join(words[:-2])] = (float(words[-2]),
                                                     float(words[-1]))

    def of(self, name):
        return self._table.get(name, UNKNOWN)

    def measured(self, name, seconds, cpu_seconds):
        self._table[name] = (seconds, cpu_seconds / max(seconds, 0.1))
        with open(self._measured + ".new", "w", encoding="utf-8") as f:
            for key, cost in sorted(self._table.items()):
                f.write("%-40s %7.1f %5.2f\n" % ((key,) + cost))
        os.replace(self._measured + ".new", self._measured)


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


def choose(tests, names):
    """(the tests that names ask for, the names that ask for nothing)."""
    if not names:
        return tests, []
    chosen = [t for t in tests
              if t.name in names or set(t.suites) & set(names)]
    known = {t.name for t in tests} | {s for t in tests for s in t.suites}
    return chosen, [n for n in names if n not in known]
