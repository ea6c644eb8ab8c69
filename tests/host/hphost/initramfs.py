# SPDX-License-Identifier: GPL-2.0-or-later
"""The host's root file system: busybox, our QEMU with its libraries, firmware.

Owns the image and its cache.  The image holds only what changes seldom: test
scripts, guest kernels and guest programs come in over 9p, so that editing one
never rebuilds it.
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile

from . import cpio, paths

INIT = os.path.join(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))), 'init')
# Where QEMU, relocatable, looks for its firmware when it sits in /usr/bin.
FIRMWARE_DIR = 'usr/share/qemu'


def _busybox():
    path = os.environ.get('HP_BUSYBOX') or shutil.which('busybox')
    if not path:
        raise paths.MissingArtefact('busybox not found: install the package '
                                    'busybox-static, or set HP_BUSYBOX')
    with open(path, 'rb') as stream:
        if b'/ld-linux' in stream.read():
            raise paths.MissingArtefact(f'{path} is not linked statically: '
                                        'install the package busybox-static')
    return path


def _libraries(binary):
    """Absolute paths of all that the dynamic linker loads for BINARY."""
    out = subprocess.run(['ldd', binary], check=True, text=True,
                         stdout=subprocess.PIPE).stdout
    return sorted(set(re.findall(r'(/\S+) \(0x', out)))


def _stamp(files):
    digest = hashlib.sha256()
    for name in files:
        info = os.stat(name)
        digest.update(f'{name} {info.st_size} {info.st_mtime_ns}\n'.encode())
    return digest.hexdigest()[:16]


def _stripped(binary):
    with tempfile.NamedTemporaryFile(dir=paths.work_dir()) as out:
        subprocess.run(['strip', '-o', out.name, binary], check=True)
        with open(out.name, 'rb') as stream:
            return stream.read()


def build():
    """Return the path of an image made from the current inputs."""
    qemu, busybox = paths.qemu(), _busybox()
    libraries = _libraries(qemu)
    firmware = sorted(entry.path for entry in os.scandir(paths.firmware())
                      if entry.is_file())
    here = os.path.dirname(os.path.abspath(__file__))
    stamp = _stamp([qemu, busybox, INIT, __file__,
                    os.path.join(here, 'cpio.py')] + libraries + firmware)
    image = os.path.join(paths.work_dir(), f'host-{stamp}.cpio.zst')
    if os.path.exists(image):
        return image

    archive = cpio.Archive()
    for name in ('proc', 'sys', 'dev', 'tmp', 'run', 'host', 'root', 'sbin',
                 'var/tmp'):
        archive.directory(name)
    archive.char_device('dev/console', 5, 1)
    archive.file('bin/busybox', busybox)
    archive.file('init', INIT)
    archive.content('usr/bin/qemu-system-x86_64', _stripped(qemu))
    for library in libraries:
        archive.file(library, library)
    for name in firmware:
        archive.file(f'{FIRMWARE_DIR}/{os.path.basename(name)}', name)
    archive.write(image)
    _forget_old_images(keep=image)
    return image


def _forget_old_images(keep):
    """Keep the two newest images, in case another run still needs one."""
    old = [entry for entry in os.scandir(paths.work_dir())
           if re.fullmatch(r'host-[0-9a-f]{16}\.cpio\.zst', entry.name)
           and entry.path != keep]
    old.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    for entry in old[1:]:
        os.unlink(entry.path)
