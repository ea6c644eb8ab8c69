# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated machine: QEMU's command line and the kernel's.

Owns what hardware the host has.  It must never depend on the machine it runs
on: TCG only, so that a run means the same everywhere.
"""

import os

from . import paths

IOMMU = {
    'intel': ['-device', 'intel-iommu,intremap=on,eim=on'],
    'amd': ['-device', 'amd-iommu,intremap=on,xtsup=on'],
    # Its entries have room for xAPIC's destinations only.
    'amd-xapic': ['-device', 'amd-iommu,intremap=on,xtsup=off'],
    'none': [],
}
IOMMU_DEFAULT = 'intel'
# As AMD sells them: no TSC-deadline mode, timers that count at 100 MHz.
CPU_MODEL = 'EPYC,+x2apic,+vmcb-clean,+flushbyasid'
TIMER = ['-global', 'apic.timer-frequency=100000000']
# The host's clock is calibrated against emulated timers; on a busy machine the
# first guess is off by more than KVM's default tolerance, KVM then wants TSC
# scaling, does not have it, and gives guests an unusable TSC offset.
TSC_TOLERANCE = 'kvm.tsc_tolerance_ppm=100000'
# At boot Linux wants ten timer interrupts within a calibrated delay, or panics;
# a busy machine cannot promise that.
NO_TIMER_CHECK = 'no_timer_check'


def kernel_arguments(options):
    """The kernel's command line: what any host of this kind wants."""
    words = ['console=ttyS0', 'loglevel=6', 'panic=-1', 'tsc=reliable',
             'mitigations=off', TSC_TOLERANCE, NO_TIMER_CHECK]
    # Of some parameters the kernel takes the first.
    given = {word.partition('=')[0]
             for more in options.append for word in more.split()}
    words = [w for w in words if w.partition('=')[0] not in given]
    return ' '.join(words + options.append)


def _share(tag, directory, readonly=False):
    directory = directory.replace(',', ',,')
    return ['-fsdev', f'local,id={tag},path={directory},security_model=none,'
            f'multidevs=remap,readonly={"on" if readonly else "off"}',
            '-device', f'virtio-9p-pci,fsdev={tag},mount_tag={tag}']


def command_line(options, image, run_dir, shares):
    """The emulator's argv.

    SHARES is a list of (tag, directory, where in the host, read-only?); the
    share "run" is always there.  The console goes to RUN_DIR/console.
    """
    qemu = paths.qemu()
    cpu = options.cpu or CPU_MODEL
    if options.deadline:
        cpu += ',+tsc-deadline'
    if options.pmu:
        cpu += ',+perfctr-core'
    argv = [qemu, '-nodefaults', '-display', 'none', '-no-reboot',
            '-L', paths.firmware(), '-machine', 'q35',
            '-cpu', cpu,
            '-smp', str(options.smp), '-m', str(options.mem),
            '-serial', f'file:{run_dir}/console', '-monitor', 'none',
            '-kernel', paths.kernel(options.flavour), '-initrd', image,
            '-append', kernel_arguments(options)]
    if not options.deadline:
        argv += TIMER
    if options.icount:
        argv += ['-accel', 'tcg,thread=single',
                 '-icount', 'shift=0,sleep=off']
    else:
        argv += ['-accel', 'tcg,thread=multi']
    argv += IOMMU[options.iommu or IOMMU_DEFAULT]
    for device in options.device:
        argv += ['-device', device]
    argv += _share('run', run_dir)
    for tag, directory, _, readonly in shares:
        argv += _share(tag, directory, readonly)
    return argv + options.qemu_arg


def environment(options):
    """The emulator's environment: nothing of its own."""
    del options
    return dict(os.environ)


def collect(run_dir, shares):
    """9p has put everything in its place."""
    del run_dir, shares
