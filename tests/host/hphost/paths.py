# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the built artefacts are.

Owns the mapping from names ("the debug kernel") to files.  It must never build
anything and never look outside the build directory, the repository and what
the HP_* variables name.
"""

import os

REPO = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__)))))
BZIMAGE = 'arch/x86/boot/bzImage'


class MissingArtefact(Exception):
    """Something that `make` should have built is not there."""


def build_dir():
    return os.path.abspath(os.environ.get('HP_BUILD',
                                          os.path.join(REPO, 'build')))


def work_dir():
    """Where the test host keeps its cache and the logs of its runs."""
    path = os.path.join(build_dir(), 'hp-host')
    os.makedirs(path, exist_ok=True)
    return path


def _find(variable, default, what):
    path = os.path.abspath(os.environ.get(variable) or
                           os.path.join(build_dir(), default))
    if not os.path.exists(path):
        raise MissingArtefact(f'{what} not found at {path}: run `make`, or '
                              f'set {variable} or HP_BUILD')
    return path


def qemu():
    return _find('HP_QEMU', 'qemu/qemu-system-x86_64', 'QEMU')


def bochs():
    return _find('HP_BOCHS', 'bochs/bochs', 'Bochs')


def firmware():
    return _find('HP_FIRMWARE', 'firmware', 'the firmware directory')


def kernel(flavour='patched'):
    """The bzImage of one flavour: patched, unpatched, debug or kasan."""
    if flavour == 'patched':
        return _find('HP_KERNEL', f'linux/{BZIMAGE}', 'the patched kernel')
    return _find(f'HP_KERNEL_{flavour.upper()}', f'linux-{flavour}/{BZIMAGE}',
                 f'the {flavour} kernel')


def guest_kernel():
    """What guests inside the host boot: the same image in every comparison."""
    return os.path.abspath(os.environ.get('HP_GUEST_KERNEL') or kernel())
