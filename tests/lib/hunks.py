# SPDX-License-Identifier: GPL-2.0-or-later
"""
Where the hunks of a patch land.

Without fuzz a hunk fits only where all of its lines stand.  Mostly that is one
place in the file; where it is more, patch takes the nearest to the line that
it expects, which another version may have moved: such hunks are looked for in
the result, and must be below the function that their header names.
"""

import os
import re


def read(tree, path):
    try:
        with open(os.path.join(tree, path), encoding="utf-8",
                  errors="replace") as f:
            return f.read()
    except FileNotFoundError:
        return ""


def split(diff):
    """(path, function, old text, new text) of every hunk."""
    text = diff.decode(errors="replace")
    for part in re.split(r"^diff --git a/", text, flags=re.M)[1:]:
        path = part.split(" ", 1)[0]
        for hunk in re.split(r"^@@ ", part, flags=re.M)[1:]:
            head, *lines = hunk.splitlines(keepends=True)
            yield (path, head.partition("@@")[2].strip(),
                   "".join(l[1:] for l in lines if l[0] in " -"),
                   "".join(l[1:] for l in lines if l[0] in " +"))


def ambiguous(tree, diff):
    """Those hunks that would fit in several places of a tree."""
    return [hunk for hunk in split(diff)
            if ("\n" + read(tree, hunk[0])).count("\n" + hunk[2]) > 1]


def strays(tree, hunks):
    """Of ambiguous hunks, applied to the tree now: lines about wrong ones."""
    found = []
    for path, function, _, new in hunks:
        before, *rest = ("\n" + read(tree, path)).split("\n" + new)
        above = re.findall(r"^[A-Za-z_].*", before, re.M)
        if len(rest) != 1 or not above or \
           not above[-1].startswith(function):
            found.append("%s: a hunk for '%s' is below '%s'" % (
                path, function, above[-1] if above else ""))
    return found
