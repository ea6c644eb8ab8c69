# SPDX-License-Identifier: GPL-2.0-or-later
"""The emulator's monitor, for tests that steer the emulator itself."""

import json
import socket


class Qmp:
    """One connection.  Keeps the events that came on the way."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._file = self._socket.makefile('rw', encoding='utf-8')
        self.events = []
        self._file.readline()       # the greeting
        self.execute('qmp_capabilities')

    def execute(self, command, **arguments):
        """The answer, None when the emulator has ended; RuntimeError for no."""
        try:
            json.dump({'execute': command, 'arguments': arguments}, self._file)
            self._file.write('\n')
            self._file.flush()
            return self._answer()
        except OSError:
            return None

    def _answer(self):
        for line in self._file:
            message = json.loads(line)
            if 'error' in message:
                raise RuntimeError(message['error']['desc'])
            if 'event' not in message:
                return message['return']
            self.events.append(message)
        return None

    def follow(self):
        """Read events until the emulator ends."""
        self._answer()

    def close(self):
        self._file.close()
        self._socket.close()
