# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints the two runs side by side."""

from . import names

WIDTH = 26


def _percent(before, after):
    if not before:
        return '' if not after else 'new'
    return f'{100 * (1 - after / before):.1f} %'


def _row(title, left, right, percent=''):
    cells = ''.join(f'{cell:>8}' for cell in left)
    cells += ' |' + ''.join(f'{cell:>8}' for cell in right)
    print(f'{title:<{WIDTH}}{cells} |{percent:>10}')


def _counted(title, left, right):
    _row(title, left + [sum(left)], right + [sum(right)],
         _percent(sum(left), sum(right)))


def _total_only(title, left, right, cpus):
    blank = [''] * cpus
    _row(title, blank + [left], blank + [right], _percent(left, right))


def _msr_rows(generic, hpkvm):
    keys = sorted(set(generic.msrs) | set(hpkvm.msrs), key=lambda key:
                  -generic.msrs.get(key, 0) - hpkvm.msrs.get(key, 0))
    for key in keys:
        verb = 'write' if key[1] else 'read'
        _total_only(f'  {verb} {names.msr_name(key[0])}',
                    generic.msrs.get(key, 0), hpkvm.msrs.get(key, 0),
                    generic.cpus)


def show(generic, hpkvm):
    cpus = generic.cpus
    vcpus = [f'vCPU {n}' for n in range(cpus)] + ['all']
    line = '-' * (WIDTH + 16 * (cpus + 1) + 13)
    print(f'\nVM exits in {generic.seconds:.1f} s (generic) and '
          f'{hpkvm.seconds:.1f} s (hpkvm) of the same load\n')
    left = 'generic'.center(8 * (cpus + 1))
    print(f'{"":<{WIDTH}}{left} |{"hpkvm".center(8 * (cpus + 1))} |')
    _row('exit reason', vcpus, vcpus, 'reduction')
    print(line)
    codes = sorted(set(generic.reasons()) | set(hpkvm.reasons()),
                   key=lambda code: -generic.reason(code) -
                   hpkvm.reason(code))
    for code in codes:
        _counted(names.exit_name(generic.vendor, code), generic.by_vcpu(code),
                 hpkvm.by_vcpu(code))
        # Under the last of them, if there is one for each direction.
        if code in generic.vendor.msr and not [
                other for other in codes[codes.index(code) + 1:]
                if other in generic.vendor.msr]:
            _msr_rows(generic, hpkvm)
    print(line)
    _counted('all exits',
             [sum(generic.by_vcpu(code)[n] for code in generic.reasons())
              for n in range(cpus)],
             [sum(hpkvm.by_vcpu(code)[n] for code in hpkvm.reasons())
              for n in range(cpus)])
    print(line)
    _total_only('IPIs sent (exits)', generic.ipis_sent(), hpkvm.ipis_sent(),
                cpus)
    for title, what in (('IPIs received', lambda run: run.ipis_received()),
                        ('timer interrupts', lambda run: run.irq('LOC')),
                        ('1 ms sleeps done', lambda run: run.sleeps)):
        _row(title, what(generic) + [sum(what(generic))],
             what(hpkvm) + [sum(what(hpkvm))])
    print(line)
    if hpkvm.device_exits is not None:
        _total_only('exits per 1000 device IRQs', generic.device_cost(),
                    hpkvm.device_cost(), cpus)
    print()
