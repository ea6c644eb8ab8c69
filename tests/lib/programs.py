# SPDX-License-Identifier: GPL-2.0-or-later
"""What end-to-end tests take along into the host.

Owns the building of it.  It must never build anything that the tests of the
host itself need: those would not show that the host works without.
"""

import os
import subprocess

from repo import TESTS
from hphost import paths


def micro():
    """Build the guest that measures itself; its path."""
    output = os.path.join(paths.build_dir(), 'guest', 'micro.elf')
    guests = os.path.join(TESTS, 'guest')
    os.makedirs(os.path.dirname(output), exist_ok=True)
    subprocess.run([os.path.join(guests, 'lib/build-guest'), output,
                    os.path.join(guests, 'micro.c'),
                    os.path.join(guests, 'lib/devices.c')], check=True)
    return output


def options():
    """Build the guest and the tools; hp-host's options that copy them in."""
    output = os.path.join(paths.build_dir(), 'guest')
    initrd = os.path.join(output, 'linux.cpio.zst')
    core_check = os.path.join(output, 'core-check')
    subprocess.run([os.path.join(TESTS, 'guest/linux/build'), initrd],
                   check=True)
    subprocess.run([os.path.join(TESTS, 'inside/tools/build-core-check'), core_check],
                   check=True)
    return ['--file', initrd, '--file', core_check]
