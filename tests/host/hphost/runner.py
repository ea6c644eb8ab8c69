# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots the host, follows the command's output, and returns the status.

Owns one run from its directory to its verdict.  It must never leave an
emulator behind, and must never report success for a host that complained.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from . import bochs, initramfs, machine, paths, verdict

# Statuses of our own, as timeout(1) and the shell have theirs.
TIME_LIMIT = 124
COMPLAINED = 125
HOST_DIED = 126
CANNOT_START = 127

# Starts what we say, on stderr and under the console of a run that was bad.
VERDICT = 'hp-host: '

POLL_SECONDS = 0.1
GRACE_SECONDS = 20


class _Follower:
    """Copies what appears in a file to a stream, as it appears."""

    def __init__(self, path, stream):
        self._path, self._out, self._file = path, stream, None

    def copy(self):
        if self._file is None:
            try:
                self._file = open(self._path, 'rb')
            except FileNotFoundError:
                return
        data = self._file.read()
        if data:
            self._out.buffer.write(data)
            self._out.flush()


def _read(path):
    try:
        with open(path, encoding='utf-8', errors='replace') as stream:
            return stream.read()
    except FileNotFoundError:
        return ''


def _say(text):
    print(f'{VERDICT}{text}', file=sys.stderr, flush=True)


def _explain(run_dir, text, lines):
    """Say why a run is bad, and write it under the host's own words."""
    said = f'{text}\n' + ''.join(f'    {line}\n' for line in lines)
    _say(said.rstrip())
    with open(f'{run_dir}/console', 'a', encoding='utf-8') as console:
        console.write(f'{VERDICT}{said}')


def _populate(run_dir, options):
    """Fill the directory that the host sees as /host/run."""
    shares = [('tests', os.path.join(paths.REPO, 'tests'), 'host/tests', True)]
    for index, spec in enumerate(options.share):
        directory, _, name = spec.partition(':')
        directory = os.path.abspath(directory)
        name = name or os.path.basename(directory)
        shares.append((f'share{index}', directory, f'host/{name}', False))
    os.mkdir(os.path.join(run_dir, 'files'))
    shutil.copy(paths.guest_kernel(), os.path.join(run_dir, 'bzImage'))
    for source in options.file:
        shutil.copy(source, os.path.join(run_dir, 'files'))
    environment = {'GUEST_KERNEL': '/host/run/bzImage',
                   'FILES': '/host/run/files'}
    for setting in options.env:
        name, _, value = setting.partition('=')
        environment[name] = value
    for name, text in (
            ('shares', ''.join(f'{tag} /{mount} {"ro" if readonly else "rw"}\n'
                               for tag, _, mount, readonly in shares)),
            ('environment', ''.join(f'{key}={shlex.quote(value)}\n'
                                    for key, value in environment.items())),
            ('command', shlex.join(options.command) + '\n')):
        with open(os.path.join(run_dir, name), 'w', encoding='utf-8') as out:
            out.write(text)
    return shares


def _follow(process, run_dir, limit):
    """Wait for the emulator.  Returns False when the time limit ended it."""
    followers = [_Follower(f'{run_dir}/stdout', sys.stdout),
                 _Follower(f'{run_dir}/stderr', sys.stderr)]
    deadline = time.monotonic() + limit
    in_time, dying = True, False
    while True:
        ended = process.poll() is not None
        for follower in followers:
            follower.copy()
        if ended:
            return in_time
        now = time.monotonic()
        if not dying and verdict.looks_dead(_read(f'{run_dir}/console')):
            dying = True
            deadline = min(deadline, now + GRACE_SECONDS)
        if now >= deadline:
            in_time = dying
            process.kill()
            process.wait()
        time.sleep(POLL_SECONDS)


def _ending(status):
    """How the emulator ended: a host that resets itself ends it with 0."""
    return f'signal {-status}' if status < 0 else f'status {status}'


def _last_words(run_dir, console):
    """The emulator's, if it had any, stand apart from its host's."""
    emulator = _read(f'{run_dir}/emulator.log').splitlines()[-10:]
    return [*(f'the emulator: {line}' for line in emulator),
            *console.splitlines()[-10:]]


def _verdict(run_dir, in_time, limit, emulator_status):
    """Status of a finished run; says why when it is one of ours."""
    console = _read(f'{run_dir}/console') + _read(f'{run_dir}/dmesg')
    status_text = _read(f'{run_dir}/status').strip()
    bad = list(dict.fromkeys(verdict.complaints(console)))
    if bad:
        _explain(run_dir, 'the kernel complained:', bad)
        return COMPLAINED
    if in_time and status_text:
        return int(status_text)
    _explain(run_dir,
             f'the host ended ({_ending(emulator_status)}) before the command '
             'did; its last words:' if in_time
             else f'time limit of {limit} s reached; its last words:',
             _last_words(run_dir, console))
    return HOST_DIED if in_time else TIME_LIMIT


def patience(seconds):
    """A time limit: many runs side by side (run-checks) need more each."""
    return seconds * int(os.environ.get('HP_PATIENCE', '1'))


def run(options):
    limit = patience(options.timeout)
    image = initramfs.build()
    run_dir = tempfile.mkdtemp(prefix='run-', dir=paths.work_dir())
    shares = _populate(run_dir, options)
    host = bochs if options.vmx else machine
    argv = host.command_line(options, image, run_dir, shares)
    if options.verbose:
        _say(shlex.join(argv))
    with open(f'{run_dir}/emulator.log', 'wb') as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
                                   stderr=log, env=host.environment(options))
    # Our own end, by whatever signal, is the emulator's end too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        in_time = _follow(process, run_dir, limit)
        host.collect(run_dir, shares)
        status = _verdict(run_dir, in_time, limit, process.returncode)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log = options.log or os.path.join(paths.work_dir(), 'console.log')
        if os.path.exists(f'{run_dir}/console'):
            shutil.copy(f'{run_dir}/console', log)
        if not options.keep:
            shutil.rmtree(run_dir, ignore_errors=True)
    if status:
        _say(f'console log: {log}')
    if options.keep:
        _say(f'run directory: {run_dir}')
    return status
