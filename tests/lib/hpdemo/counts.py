# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads what one measured run left behind.

Owns the formats of the kernel's histograms and of the guest's lines.  It must
never fill a gap: what is missing is an error.
"""

import os
import re

from . import names

ICR = 0x830
EOI = 0x80b
TIMER_MSRS = (0x6e0, 0x832, 0x838, 0x839, 0x83e)


class Incomplete(Exception):
    """A file of the results is missing or says nothing."""


def _read(directory, name):
    try:
        with open(os.path.join(directory, name), encoding='utf-8',
                  errors='replace') as stream:
            return stream.read()
    except FileNotFoundError as error:
        raise Incomplete(f'{name} is missing from {directory}') from error


def _histogram(text, *keys):
    """{(key, ...): hits} of a histogram trigger's output."""
    counts = {}
    for entry, hits in re.findall(r'\{(.*?)\} hitcount:\s*(\d+)', text):
        fields = dict(re.findall(r'(\w+):\s*(-?\d+)', entry))
        counts[tuple(int(fields[key]) for key in keys)] = int(hits)
    dropped = re.search(r'Dropped: (\d+)', text)
    if dropped and int(dropped.group(1)):
        raise Incomplete(f'the kernel dropped {dropped.group(1)} counts')
    return counts


class Run:
    """One guest's window: exits by (vCPU, reason), MSRs, interrupts."""

    def __init__(self, directory):
        self.exits = _histogram(_read(directory, 'kvm_exit'),
                                'vcpu_id', 'exit_reason')
        self.msrs = _histogram(_read(directory, 'kvm_msr'), 'ecx', 'write')
        self.hypercalls = _histogram(_read(directory, 'kvm_hypercall'), 'nr')
        guest = _read(directory, 'guest')
        window = re.search(r'^window: cpus=(\d+) msec=(\d+)', guest, re.M)
        if not window or not self.exits:
            raise Incomplete(f'no measured window in {directory}')
        self.cpus, self.seconds = int(window[1]), int(window[2]) / 1000
        self.sleeps = [int(count) for count in
                       re.findall(r'^load: cpu=\d+ sleeps=(\d+)', guest, re.M)]
        self.irqs = {name: [int(count) for count in counts.split()]
                     for name, counts in
                     re.findall(r'^irq: (\w+)((?: \d+)+)', guest, re.M)}
        self.host = _read(directory, 'host').strip()
        self.vendor = names.VENDORS[self.host]
        # The VMX host has no device to give away.
        self.device_exits = None if self.host == 'vmx' else _histogram(
            _read(directory, 'device_exit'), 'exit_reason')
        self.log = _read(directory, 'log').strip()
        self.query = _read(directory, 'query-hpkvm').strip()

    def total(self):
        return sum(self.exits.values())

    def reasons(self):
        """Exit codes seen, the most frequent first."""
        codes = {code for _, code in self.exits}
        return sorted(codes, key=lambda code: -self.reason(code))

    def reason(self, *codes):
        return sum(hits for (_, code), hits in self.exits.items()
                   if code in codes)

    def by_vcpu(self, code):
        return [self.exits.get((vcpu, code), 0) for vcpu in range(self.cpus)]

    def msr(self, numbers, write=None):
        return sum(hits for (number, wrote), hits in self.msrs.items()
                   if number in numbers and write in (None, wrote))

    def irq(self, *names):
        """Interrupts received under these names, by vCPU."""
        rows = [self.irqs.get(name, [0] * self.cpus) for name in names]
        return [sum(column) for column in zip(*rows)]

    def ipis_received(self):
        return self.irq('RES', 'CAL')

    def ipis_sent(self):
        """Exits that sent IPIs: ICR writes, and KVM's own hypercall."""
        return (self.msr((ICR,), write=1) +
                self.hypercalls.get((10,), 0))

    def device_cost(self):
        """Exits of 1000 interrupts of a device that is the guest's."""
        return sum(hits for (code,), hits in self.device_exits.items()
                   if code not in self.vendor.marks)
