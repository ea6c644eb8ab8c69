# SPDX-License-Identifier: GPL-2.0-or-later
"""Guests, and what tests take along into the host.

Owns the building of it.  It must never build anything that the tests of the
host itself need: those would not show that the host works without.
"""

import os
import subprocess

from repo import TESTS
from hphost import paths


def build_guest(output, *sources):
    """Make a freestanding guest of files below tests/guest."""
    os.makedirs(os.path.dirname(output), exist_ok=True)
    guests = os.path.join(TESTS, 'guest')
    subprocess.run([os.path.join(guests, 'lib/build-guest'), output,
                    *(os.path.join(guests, source) for source in sources)],
                   check=True)


def _built(name):
    return os.path.join(paths.build_dir(), 'guest', name)


def _build(script, name):
    """What a script makes that does nothing when it has made it before."""
    subprocess.run([os.path.join(TESTS, script), _built(name)], check=True)
    return _built(name)


def micro():
    """Build the guest that measures itself; its path."""
    build_guest(_built('micro.elf'), 'micro.c', 'lib/devices.c')
    return _built('micro.elf')


def linux_guest():
    """Build the initramfs of the Linux guest; its path."""
    return _build('guest/linux/build', 'linux.cpio.zst')


def options():
    """hp-host's options that copy in the Linux guest and core-check."""
    return ['--file', linux_guest(),
            '--file', _build('inside/tools/build-core-check', 'core-check')]
