# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make check` says while it runs and in the end.

It prints, and adds up what it prints; it must never decide what is run.
"""

import time

from . import count as counting


def clock(seconds):
    return "%d:%02d" % divmod(int(seconds), 60)


class Report:
    """Watches a Pool."""

    def __init__(self, cost, tests, scale, seed):
        self._cost = cost
        self._scale, self._seed = scale, seed
        self._of = len(tests)
        self._done = 0
        self._began = time.monotonic()
        self._rows = []         # (seconds, processors kept busy, what)
        self._suites = {}
        self._broken = []       # names of tests that failed
        self.total = counting.Count()
        self.pool = None

    def _say(self, text):
        print("[%s] %s" % (clock(time.monotonic() - self._began), text),
              flush=True)

    def _progress(self):
        return "%d of %d done, about %d min left" % (
            self._done, self._of, (self.pool.left() + 59) // 60)

    def started(self, test):
        self._say("%s ... (%s)" % (test.title, self._progress()))

    def built(self, job):
        build = job.what
        if job.status:
            self.total.fail("%s: exit status %d" % (build.name, job.status))
            print(job.output() + job.output("err"))
        elif not build.cached:
            self._cost.measured(build.name, job.seconds)
        self._say("%s: %s, %.0f s" % (
            build.name, "FAILED" if job.status else "ok", job.seconds))
        if job.seconds >= 1:
            self._rows.append((job.seconds, job.cpu_seconds, build.name))

    def impossible(self, test):
        """What it needs could not be built."""
        count = counting.Count()
        count.fail(test.name + ": what it needs was not built")
        self._add(test, count, 0, 0)

    def ended(self, job):
        test = job.what
        count = counting.count_tap(test.name, job.output(), job.status,
                              job.timed_out)
        if not count.failed:
            self._cost.measured(test.name, job.seconds)
        self._add(test, count, job.seconds, job.cpu_seconds)
        self._say("%s: %s, %.0f s" % (test.title, count, job.seconds))
        for line in count.failures:
            print("    " + line.replace("\n", "\n    "), flush=True)
        if count.failed:
            print("    all of its output: %s.out, .err" % job.log, flush=True)

    def _add(self, test, count, seconds, cpu_seconds):
        self._done += 1
        self.total.add(count)
        self._rows.append((seconds, cpu_seconds, test.title))
        suite = self._suites.setdefault(test.suites[0], counting.Count())
        suite.add(count)
        if count.failed:
            self._broken.append(test.name)

    def _table(self):
        print("\n%-50s %8s %8s" % ("part, slowest first", "seconds", "busy"))
        for seconds, cpu, name in sorted(self._rows, reverse=True):
            print("%-50s %8.0f %7.0f%%" % (
                name, seconds, 100 * cpu / max(seconds, 0.1)))
        print("%-50s %8.0f" % ("all of it, side by side",
                               time.monotonic() - self._began))

    def summary(self):
        """All but the last line; how a failure is repeated is part of it."""
        self._table()
        for suite, count in sorted(self._suites.items()):
            print("%-10s %s" % (suite, count))
        for title, lines in (("skipped", self.total.skips),
                             ("failed", self.total.failures)):
            for line in lines:
                print("%s: %s" % (title, line))
        for name in self._broken:
            print("repeat: make check TESTS=%s SEED=%s%s" % (
                name, self._seed, self._scale and " SCALE=" + self._scale))
