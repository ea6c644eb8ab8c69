# SPDX-License-Identifier: GPL-2.0-or-later
"""
A series as the mails that a reviewer would get: new files in the diff.
Copies of the other project's headers are left out; they are checked there.

No git tree is needed, so it works on the plain trees of the build directory.
"""

import difflib

import series


def new_file_diff(project, path):
    """The diff that adds a new file, as text."""
    with open(series.home(project, path), encoding="utf-8") as f:
        lines = f.readlines()
    head = ["diff --git a/%s b/%s\n" % (path, path),
            "new file mode 100644\n"]
    return "".join(head) + "".join(difflib.unified_diff(
        [], lines, "/dev/null", "b/" + path))


def mails(project):
    """Pairs of (patch, its mail as text)."""
    for patch in series.load(project):
        subject, _, body = patch.message.partition("\n")
        yield patch, "From: %s\nDate: %s\nSubject: [PATCH] %s\n%s---\n\n%s%s" % (
            patch.author, patch.date, subject, body.rstrip("\n") + "\n",
            "".join(new_file_diff(project, p) for p in patch.new_files
                    if p not in series.SHARED),
            patch.diff.decode())
