# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts a test's TAP output.

A test that ends with an error, runs out of time, prints another number of
results than it planned, or prints none at all counts as one failure more.
This module must never let a bad test look like a good one.
"""

import re

# Of what a test says about a failure, the summary repeats so many lines.
MOST_LINES = 10

_PLAN = re.compile(r"1\.\.(\d+)(?:\s*#\s*skip\S*\s*(.*))?", re.I)
# A '#' may be part of the name (#GP): only SKIP and TODO end it.
_RESULT = re.compile(r"(not )?ok\b\s*\d*\s*-?\s*(.*?)\s*"
                     r"(?:\s#\s*(skip|todo)\S*\s*(.*))?$", re.I)


class Count:
    """Results of one test or of all."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.failures = []      # "name: why", for the summary
        self.skips = []

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.failures += other.failures
        self.skips += other.skips

    def fail(self, what):
        self.failed += 1
        self.failures.append(what)

    def skip(self, what, why):
        self.skipped += 1
        self.skips.append("%s: %s" % (what, why or "no reason given"))

    def explain(self, line):
        """LINE belongs to the failure that came last."""
        lines = self.failures[-1].split("\n")
        if len(lines) <= MOST_LINES:
            self.failures[-1] += "\n    " + line

    def __str__(self):
        return "%d passed, %d failed, %d skipped" % (
            self.passed, self.failed, self.skipped)


def _count_lines(name, output, count):
    """(results that were planned or None, results that were printed)."""
    planned, printed = None, 0
    explains = False            # the lines after a failure say why
    for line in output.splitlines():
        if explains and line.startswith("# "):
            count.explain(line)
            continue
        plan = _PLAN.match(line)
        if plan:
            planned = int(plan.group(1))
            if planned == 0:
                count.skip(name, plan.group(2))
                printed += 1
            continue
        result = _RESULT.match(line)
        if not result:
            if line.startswith("Bail out!"):
                count.fail("%s: %s" % (name, line))
            continue
        printed += 1
        bad, what, directive, why = result.groups()
        explains = bool(bad) and not directive
        if directive and directive.lower() == "skip":
            count.skip("%s: %s" % (name, what), why)
        elif bad:
            count.fail("%s: %s" % (name, what))
        else:
            count.passed += 1
    return planned, printed


def count_tap(name, output, status, timed_out=False):
    """Add up one test's output.

    status: its exit status; timed_out: it was ended because it took too long.
    """
    count = Count()
    planned, printed = _count_lines(name, output, count)
    if timed_out:
        count.fail(name + ": out of time")
    elif printed == 0:
        count.fail(name + ": no results")
    elif planned is None:
        count.fail(name + ": no plan")
    elif planned and planned != printed:
        count.fail("%s: planned %d results, printed %d" %
                   (name, planned, printed))
    if status and not count.failed:
        count.fail("%s: exit status %d" % (name, status))
    return count
