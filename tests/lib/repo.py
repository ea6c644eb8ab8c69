# SPDX-License-Identifier: GPL-2.0-or-later
"""Where things are, for what runs on the build machine.

Importing this makes the modules of hp-host and of scripts/ importable, too.
"""

import os
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
TOP = os.path.dirname(TESTS)
HP_HOST = os.path.join(TESTS, 'host/hp-host')
sys.path[:0] = [os.path.join(TESTS, 'host'), os.path.join(TOP, 'scripts')]
