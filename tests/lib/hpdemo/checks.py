# SPDX-License-Identifier: GPL-2.0-or-later
"""What must hold for the two runs of the demonstration.

Owns the limits.  Each check has a name that says what failed; none may be
weakened to make a run pass.
"""

from . import counts, names

REDUCTION_PERCENT = 99
OTHER_PER_VCPU_SECOND = 5
# In a second of load; a busy machine makes seconds longer, not the load.
IPIS_PER_1000_SLEEPS = 20
WINDOW_SECONDS = 10
# What the guest with a device takes; the host may want the core meanwhile.
DEVICE_INTERRUPTS = 1000
DEVICE_SLACK = 10


def reduction(generic, hpkvm):
    """Percent of the generic guest's exits that are gone."""
    return 100 * (1 - hpkvm.total() / generic.total())


def _zero(what, count):
    return f'{what} costs no exit', count == 0, f'{count} exits'


def _load(name, run):
    sleeps = max(run.sleeps, default=0)
    per_1000 = 1000 * sum(run.ipis_received()) / max(sleeps, 1)
    yield (f'{name}: the window is {WINDOW_SECONDS} s or more',
           run.seconds >= WINDOW_SECONDS, f'{run.seconds:.1f} s')
    yield (f'{name}: every vCPU took timer interrupts for its sleeps',
           len(run.sleeps) == run.cpus and
           all(timer >= sleeps > 0 for timer, sleeps in
               zip(run.irq('LOC'), run.sleeps)),
           f'{run.irq("LOC")} interrupts for {run.sleeps} sleeps')
    yield (f'{name}: IPIs flow, {IPIS_PER_1000_SLEEPS} for 1000 sleeps or more',
           per_1000 >= IPIS_PER_1000_SLEEPS, f'{per_1000:.1f}')


def _ipi_cost(run):
    """Sending costs one exit: no more, no less, than IPIs received.

    Two sends of one vector may merge before the target takes the first, so
    sends may be a few more than receipts; the guest reads its counters just
    outside the window, so receipts may be a few more than sends.
    """
    sent, received = run.ipis_sent(), sum(run.ipis_received())
    slack = max(4, received // 50)
    return ('sending an IPI costs exactly 1 exit',
            abs(sent - received) <= slack,
            f'{sent} exits for {received} received')


def _device(generic, hpkvm):
    yield ('generic: a device interrupt costs an exit or more',
           generic.device_cost() >= DEVICE_INTERRUPTS,
           f'{generic.device_cost()} exits for {DEVICE_INTERRUPTS}')
    yield ('a device interrupt costs no exit',
           hpkvm.device_cost() < DEVICE_SLACK,
           f'{hpkvm.device_cost()} exits for {DEVICE_INTERRUPTS}')


def checks(generic, hpkvm):
    """Yield (name, holds?, detail)."""
    vendor = hpkvm.vendor
    yield from _load('generic', generic)
    yield from _load('hpkvm', hpkvm)
    percent = reduction(generic, hpkvm)
    yield (f'{REDUCTION_PERCENT} % of the exits are gone',
           percent >= REDUCTION_PERCENT, f'{percent:.2f} %')
    yield _zero('arming a timer', hpkvm.msr(counts.TIMER_MSRS))
    yield _zero('a timer that fires', hpkvm.reason(*vendor.interrupt))
    yield _zero('HLT', hpkvm.reason(*vendor.halt))
    yield _zero('EOI', hpkvm.msr((counts.EOI,)))
    yield _zero('receiving an IPI', hpkvm.reason(*vendor.interrupt))
    yield _ipi_cost(hpkvm)
    if hpkvm.device_exits is not None:
        yield from _device(generic, hpkvm)
    other = hpkvm.total() - hpkvm.ipis_sent()
    limit = OTHER_PER_VCPU_SECOND * hpkvm.cpus * hpkvm.seconds
    detail = ', '.join(f'{names.exit_name(vendor, code)} '
                       f'{hpkvm.reason(code)}'
                       for code in hpkvm.reasons())
    yield (f'all other exits stay below {OTHER_PER_VCPU_SECOND} per '
           'vCPU-second', other < limit,
           f'{other} of at most {limit:.0f} ({detail})')
    unknown = [code for code in hpkvm.reasons() if code not in vendor.exits]
    yield ('every exit reason has a name', not unknown,
           ', '.join(map(hex, unknown)) or 'all named')
