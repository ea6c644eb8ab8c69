# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads a kernel's console and says what is wrong with it.

Owns the list of complaints.  It must never excuse one: a run whose kernel
complained has failed, whatever its command returned.
"""

import re

COMPLAINT = re.compile('|'.join((
    r'Kernel panic - not syncing',
    r'\bOops\b',
    r'\bBUG: ',
    r'\bkernel BUG at ',
    r'\bWARNING: ',
    r'general protection fault',
    r'unable to handle ',
    r'rcu: INFO: .*(detected|self-detected).* stalls?',
    r'rcu: .*kthread starved',
    r'soft lockup',
    r'hard LOCKUP',
    r'hung_task|blocked for more than \d+ seconds',
    r'INFO: possible (recursive|circular|irq) lock',
    r'possible (recursive locking|circular locking|irq lock inversion)',
    r'inconsistent lock state',
    r'suspicious RCU usage',
    r'unknown NMI|Uhhuh\. NMI received|Dazed and confused',
    r'No irq handler for vector',
    r'irq \d+: nobody cared',
    r'scheduling while atomic',
    r'Spurious LAPIC|unexpected IRQ trap',
    r'KVM: entry failed',
    r'\bUBSAN: ',
    r'kmemleak: \d+ new suspected memory leak',
)))
# After one of these the kernel may sit there for ever.
DEAD = re.compile(r'Kernel panic|\bOops\b|\bkernel BUG at |unable to handle |'
                  r'general protection fault|hard LOCKUP')


def complaints(text):
    """The lines of TEXT that no healthy kernel prints."""
    return [line.rstrip() for line in text.splitlines()
            if COMPLAINT.search(line)]


def looks_dead(text):
    return bool(DEAD.search(text))
