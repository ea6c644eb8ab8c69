# SPDX-License-Identifier: GPL-2.0-or-later
"""Builds and runs, as many at a time as the machine has processors for.

One build at a time, beside tests whose needs are met.  A test starts when the
processors that it keeps busy are free; of those that fit, the one that wants
most comes first, and then the one that takes longest: small ones fill what is
left beside it.  They and builds only get the time that it leaves: the threads
of an emulated host wait for each other, and are not to wait for those of a
compiler, too.  A new session would undo that, because each has a share of its
own where the kernel groups tasks by session.  This module must never leave a
test's processes behind.
"""

import os
import signal
import subprocess
import time

# An emulator waits for its disk, its timers and its own threads: a little
# more than there is keeps all processors busy.
SPARE = 0.35
# Seconds between asking a test to end and ending it.
GRACE = 10
# How likely it is that what was built once has to be built again.
STALE = 0.1
POLL = 0.2


# Runs what follows only while nothing else wants the processor.
IN_THE_BACKGROUND = ("chrt", "--idle", "0")


class Job:
    """A process of ours, in a group of its own, and what it printed."""

    def __init__(self, what, command, env, cwd, log, timeout=None):
        self.what = what
        self.log = log
        self.started = time.monotonic()
        self.deadline = self.started + timeout if timeout else None
        self.timed_out = False
        self.status = None
        self.seconds = self.cpu_seconds = 0.0
        with open(log + ".out", "wb") as out, open(log + ".err", "wb") as err:
            self._process = subprocess.Popen(
                command, env=env, cwd=cwd, stdin=subprocess.DEVNULL,
                stdout=out, stderr=err, process_group=0)

    def _signal(self, number):
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            pass

    def stop(self):
        """Ask, then insist."""
        self._signal(signal.SIGTERM)
        end = time.monotonic() + GRACE
        while not self.poll() and time.monotonic() < end:
            time.sleep(POLL)
        self._signal(signal.SIGKILL)
        while not self.poll():
            time.sleep(POLL)

    def poll(self):
        """True when it has ended."""
        if self.status is not None:
            return True
        pid, status, usage = os.wait4(self._process.pid, os.WNOHANG)
        if not pid:
            return False
        self._process.returncode = self.status = \
            os.waitstatus_to_exitcode(status)
        self.seconds = time.monotonic() - self.started
        self.cpu_seconds = usage.ru_utime + usage.ru_stime
        # What it left behind, if anything.
        self._signal(signal.SIGKILL)
        return True

    def check_time(self):
        if self.deadline and time.monotonic() > self.deadline and \
           self.status is None:
            self.timed_out = True
            self.stop()

    def output(self, which="out"):
        with open("%s.%s" % (self.log, which), encoding="utf-8",
                  errors="replace") as f:
            return f.read()


class Pool:
    """Runs what it is given; tells watcher.started() and watcher.ended()."""

    def __init__(self, processors, start_build, start_test, watcher):
        self._room = processors + SPARE
        self._start_build = start_build
        self._start_test = start_test
        self._watcher = watcher
        self.running = []
        self.building = None
        self.built = set()
        self.failed_builds = set()

    def run(self, tests):
        self.waiting = sorted(tests, key=lambda t: (-t.cpus, -t.seconds))
        try:
            while self.waiting or self.running or self.building:
                if not self._step():
                    time.sleep(POLL)
        finally:
            for job in self.running + [self.building]:
                if job:
                    job.stop()

    def left(self):
        """Seconds, as far as costs tell: of all work, and of the longest."""
        now = time.monotonic()
        missing = {b for t in self.waiting for b in t.needs} - self.built
        work = [(t.seconds, t.cpus) for t in self.waiting]
        work += [(b.seconds, b.cpus) for b in missing if not b.cached]
        work += [(max(j.what.seconds - (now - j.started), 0), j.what.cpus)
                 for j in self.running + ([self.building] if self.building
                                          else [])]
        if not work:
            return 0
        return max(sum(s * c for s, c in work) / (self._room - SPARE),
                   max(s for s, _ in work))

    def _step(self):
        return self._reap() | self._build() | self._test()

    def _reap(self):
        busy = False
        for job in list(self.running):
            job.check_time()
            if job.poll():
                self.running.remove(job)
                self._watcher.ended(job)
                busy = True
        if self.building and self.building.poll():
            job, self.building = self.building, None
            (self.failed_builds if job.status else self.built).add(job.what)
            self._watcher.built(job)
            busy = True
        return busy

    def _missing(self, test):
        return [b for b in test.needs if b not in self.built]

    def _build(self):
        """Start what makes most work possible for the time it takes."""
        for test in list(self.waiting):
            if set(test.needs) & self.failed_builds:
                self.waiting.remove(test)
                self._watcher.impossible(test)
        blocked = {test: self._missing(test) for test in self.waiting
                   if self._missing(test)}
        if self.building or not blocked:
            return False

        def worth(missing):
            # What is there may still have to be made anew.
            takes = sum(b.seconds * (STALE if b.cached else 1)
                        for b in missing)
            gives = sum(t.seconds * t.cpus for t, m in blocked.items()
                        if set(m) <= set(missing))
            return gives / max(takes, 1)

        self.building = self._start_build(max(blocked.values(), key=worth)[0])
        return True

    def _test(self):
        free = self._room - sum(j.what.cpus for j in self.running)
        for test in self.waiting:
            if self._missing(test) or \
               (test.cpus > free and self.running):
                continue
            self.waiting.remove(test)
            self.running.append(self._start_test(test))
            self._watcher.started(test)
            return True
        return False
