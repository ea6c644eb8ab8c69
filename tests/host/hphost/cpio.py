# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes initramfs archives in the kernel's "newc" format.

Owns the archive layout only; which files go in is the caller's business.
Writing it here needs neither root nor cpio(1), and the result depends on
nothing but the inputs (times and inode numbers are fixed), so that equal
inputs give equal images.
See Documentation/driver-api/early-userspace/buffer-format.rst in Linux.
"""

import os
import shutil
import stat
import subprocess


class Archive:
    """Collects entries, parents first, then compresses them into one file."""

    def __init__(self):
        self._names = set()
        self._parts = []
        self._inode = 0

    def _add(self, name, mode, data=b'', rdev=(0, 0)):
        name = name.strip('/')
        if name in self._names:
            return
        parent = os.path.dirname(name)
        if parent:
            self.directory(parent)
        self._names.add(name)
        self._inode += 1
        raw = name.encode() + b'\0'
        fields = [self._inode, mode, 0, 0, 1, 0, len(data), 0, 0,
                  rdev[0], rdev[1], len(raw), 0]
        head = b'070701' + b''.join(b'%08X' % f for f in fields) + raw
        self._parts += [_pad(head), _pad(data)]

    def directory(self, name):
        self._add(name, stat.S_IFDIR | 0o755)

    def symlink(self, name, target):
        self._add(name, stat.S_IFLNK | 0o777, target.encode())

    def char_device(self, name, major, minor):
        self._add(name, stat.S_IFCHR | 0o600, rdev=(major, minor))

    def content(self, name, data, mode=0o755):
        self._add(name, stat.S_IFREG | mode, data)

    def file(self, name, source):
        with open(source, 'rb') as stream:
            self.content(name, stream.read(),
                         stat.S_IMODE(os.stat(source).st_mode))

    def write(self, path):
        """Write the compressed archive to PATH, replacing it atomically."""
        self._add('TRAILER!!!', 0)
        if shutil.which('zstd'):
            compress = ['zstd', '-1', '-q', '-c']
        else:
            compress = ['gzip', '-1', '-n', '-c']
        temporary = f'{path}.{os.getpid()}'
        with open(temporary, 'wb') as out:
            subprocess.run(compress, input=b''.join(self._parts), stdout=out,
                           check=True)
        os.replace(temporary, path)


def _pad(data):
    return data + b'\0' * (-len(data) % 4)
