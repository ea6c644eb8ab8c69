# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulated machine with VMX: Bochs, started from a CD.

Owns what hardware this host has, and how files get in and out of it without
9p: in as a second initramfs, out through serial ports.  A run depends on
nothing but its files and the seed: Bochs counts instructions, not seconds.
"""

import os
import shutil
import subprocess
import tarfile

from . import cpio, machine, paths

ISOLINUX = '/usr/lib/ISOLINUX/isolinux.bin'
LDLINUX = '/usr/lib/syslinux/modules/bios/ldlinux.c32'
BIOS = '/usr/share/bochs/BIOS-bochs-latest'
VGA_BIOS = '/usr/share/vgabios/vgabios.bin'

# Instructions in an emulated second: the TSC's frequency, too.
IPS = 25000000
# What init writes to each serial port ends up in this file of the run's.
PORTS = ('console', 'stdout', 'stderr', 'results.tar')
# Bochs ends with this when the machine is switched off.
SWITCHED_OFF = 1

# What QEMU's machine has and this one cannot: options and their defaults.
REFUSED = {'iommu': None, 'icount': False, 'device': [], 'cpu': None,
           'deadline': False, 'pmu': False, 'qemu_arg': []}

CONFIG = '''\
display_library: nogui
config_interface: textconfig
cpu: model=corei7_icelake_u, count={smp}, ips={ips}, quantum=16, \
reset_on_triple_fault=0, ignore_bad_msrs=1
memory: guest={mem}, host={mem}
romimage: file={bios}
vgaromimage: file={vga}
vga: extension=vbe, update_freq=5, realtime=0
clock: sync=none, time0=1700000000, rtc_sync=0
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
pci: enabled=1, chipset=i440fx
log: {run_dir}/emulator.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
speaker: enabled=0
mouse: enabled=0
'''


def refuse(options):
    """Say no to what this machine does not have."""
    for name, default in REFUSED.items():
        if getattr(options, name) != default:
            raise paths.MissingArtefact(
                f'--{name.replace("_", "-")}: the VMX host (Bochs) has none')


def _installed(path, package):
    if not os.path.exists(path):
        raise paths.MissingArtefact(f'{path} not found: install the package '
                                    f'{package}')
    return path


def _pack(run_dir, shares, target):
    """The second initramfs: the run's directory and what it shares."""
    archive = cpio.Archive()
    trees = [(run_dir, 'host/run')]
    trees += [(directory, mount) for _, directory, mount, _ in shares]
    for top, mount in trees:
        archive.directory(mount)
        for directory, subdirectories, files in os.walk(top):
            subdirectories[:] = sorted(d for d in subdirectories
                                       if d != '__pycache__')
            inside = os.path.join(mount, os.path.relpath(directory, top))
            for name in sorted(files):
                archive.file(os.path.normpath(os.path.join(inside, name)),
                             os.path.join(directory, name))
    archive.write(target)


def _kernel_arguments(options):
    # As most processors are; --append can have IPI virtualization.
    words = ['kvm_intel.enable_ipiv=0']
    # A tick is a large part of what so slow a processor does, and a guest's exits
    # to QEMU bring it back.
    if options.smp > 2 and 'nohz_full=' not in ' '.join(options.append):
        words += [f'{name}=2-{options.smp - 1}'
                  for name in ('nohz_full', 'rcu_nocbs')]
    words += machine.kernel_arguments(options).split()
    # idle=halt: guests hang in their idle loop with MWAIT (docs/test-host.md).
    words += [f'tsc_early_khz={IPS // 1000}', 'idle=halt']
    return ' '.join('console=ttyS0,115200' if word == 'console=ttyS0' else word
                    for word in words)


def _make_cd(options, image, run_dir, shares):
    tree = os.path.join(run_dir, 'cd')
    os.mkdir(tree)
    shutil.copy(_installed(ISOLINUX, 'isolinux'), tree)
    shutil.copy(_installed(LDLINUX, 'syslinux-common'), tree)
    shutil.copy(paths.kernel(options.flavour), os.path.join(tree, 'bzimage'))
    os.link(image, os.path.join(tree, 'host.img'))
    _pack(run_dir, shares, os.path.join(run_dir, 'run.img'))
    os.rename(os.path.join(run_dir, 'run.img'), os.path.join(tree, 'run.img'))
    with open(os.path.join(tree, 'isolinux.cfg'), 'w', encoding='ascii') as out:
        out.write('default host\nprompt 0\nlabel host\n kernel bzimage\n'
                  ' initrd host.img,run.img\n'
                  f' append {_kernel_arguments(options)}\n')
    iso = os.path.join(run_dir, 'cd.iso')
    subprocess.run(['xorriso', '-as', 'mkisofs', '-quiet', '-o', iso,
                    '-b', 'isolinux.bin', '-c', 'boot.cat', '-no-emul-boot',
                    '-boot-load-size', '4', '-boot-info-table', tree],
                   check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return iso


def command_line(options, image, run_dir, shares):
    """The emulator's argv.

    SHARES is a list of (tag, directory, where in the host, read-only?).
    """
    refuse(options)
    with open(os.path.join(run_dir, 'ports'), 'w', encoding='ascii') as out:
        out.write('This host talks through serial ports.\n')
    iso = _make_cd(options, image, run_dir, shares)
    config = CONFIG.format(
        smp=options.smp, mem=options.mem, ips=IPS, iso=iso, run_dir=run_dir,
        bios=_installed(BIOS, 'bochsbios'),
        vga=_installed(VGA_BIOS, 'vgabios'))
    for number, name in enumerate(PORTS, 1):
        config += (f'com{number}: enabled=1, mode=file, '
                   f'dev={os.path.join(run_dir, name)}\n')
    rc = os.path.join(run_dir, 'bochsrc')
    with open(rc, 'w', encoding='utf-8') as out:
        out.write(config)
    return [paths.bochs(), '-q', '-f', rc]


def environment(options):
    """What Bochs, as we patched it, reads from its environment."""
    # Without a VT-d unit only a guest gets x2APIC: Linux is to take itself for
    # one.
    return dict(os.environ, BX_HYPERVISOR='1', BX_SEED=str(options.seed))


def collect(run_dir, shares):
    """Put what came out of the host where 9p would have put it."""
    archive = os.path.join(run_dir, 'results.tar')
    if not os.path.exists(archive) or not os.path.getsize(archive):
        return
    places = {mount: directory for _, directory, mount, readonly in shares
              if not readonly}
    places['host/run'] = run_dir
    with tarfile.open(archive) as tar:
        for member in tar:
            for mount, directory in places.items():
                if not member.name.startswith(mount + '/'):
                    continue
                if member.isfile():
                    name = os.path.join(directory,
                                        member.name[len(mount) + 1:])
                    os.makedirs(os.path.dirname(name), exist_ok=True)
                    with open(name, 'wb') as out:
                        shutil.copyfileobj(tar.extractfile(member), out)
                break
