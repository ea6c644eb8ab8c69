# SPDX-License-Identifier: GPL-2.0-or-later
"""
The form of a patch series in this repository, and nothing else.

A series NAME is a directory NAME-patches of NNNN-topic.patch files (one topic,
one commit) and a set of new files kept whole, at their path in the patched
tree: below NAME-patches/new, or, for qemu, from the top of this repository.
A patch names the new files it brings on "New file:" lines between the "---"
line and the diff, where `git am` and `patch` ignore them:

    From: A. Author <a@example.org>
    Date: Tue, 24 Nov 2026 14:00:00 +0000
    Subject: [PATCH] subsystem: what changes

    why
    ---
    New file: path/of/new/file.c

    diff --git a/path/of/old/file.c b/path/of/old/file.c
    ...

No Signed-off-by: that is for who mails a patch to say (hp-patches export
--signoff).

This module reads and writes that form and knows where each file lives.  It
must never touch a source tree: hp-patches (git trees) and prepare-source
(plain trees) do that.
"""

import os
import re

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# The series that make each source tree, in the order in which they apply.
TREES = {
    "linux": ("linux",),
    "qemu": ("qemu", "emulator"),
}
SERIES = tuple(name for names in TREES.values() for name in names)

# Series without a common aim: each patch goes upstream by itself, or after
# those that it does not do without.
LOOSELY_COUPLED = ("emulator",)

# The new files of qemu lie at their own path from the top of this repository,
# but only under these directories: everything else there is ours alone.
QEMU_DIRS = ("accel/", "hw/", "include/", "monitor/", "qapi/", "stubs/",
             "target/", "tests/qtest/", "tests/unit/")

# One file, two trees: the kernel's copy is the only one kept.
SHARED = {
    "linux-headers/asm-x86/kvm_hpkvm.h":
        "linux-patches/new/arch/x86/include/uapi/asm/kvm_hpkvm.h",
}


class SeriesError(Exception):
    """A patch or a tree is not in the form this module understands."""


class Patch:
    """One topic: who, when, the message, new files (sorted), the diff."""

    def __init__(self, author, date, message, new_files, diff, name=None):
        self.author = author
        self.date = date
        self.message = message      # str, ends with exactly one newline
        self.new_files = new_files  # paths in the patched tree
        self.diff = diff            # bytes, b"" when only new files
        self.name = name            # file name, None before it has one

    @property
    def subject(self):
        return self.message.split("\n", 1)[0]

    def format(self):
        """The bytes of the patch file."""
        subject, _, body = self.message.partition("\n")
        head = ("From: %s\nDate: %s\nSubject: [PATCH] %s\n\n" %
                (self.author, self.date, subject))
        body = body.strip("\n")
        if body:
            head += body + "\n"
        head += "---\n"
        head += "".join("New file: %s\n" % f for f in self.new_files)
        out = head.encode()
        if self.diff:
            out += b"\n" + self.diff
        return out

    def touched(self):
        """The old files that the diff changes, adds or removes."""
        found = set()
        for line in self.diff.split(b"\n"):
            match = re.match(rb"diff --git a/(\S+) b/(\S+)$", line)
            if match:
                found.update(m.decode() for m in match.groups())
        return found


def parse(data, name):
    """Read one patch file's bytes; SeriesError when it is malformed."""
    head, sep, rest = data.partition(b"\n\n")
    fields = {}
    for line in head.decode().split("\n"):
        key, colon, value = line.partition(": ")
        if not colon:
            raise SeriesError("%s: bad header line: %s" % (name, line))
        fields[key] = value
    missing = [k for k in ("From", "Date", "Subject") if k not in fields]
    if not sep or missing:
        raise SeriesError("%s: no %s header" % (name, ", ".join(missing)))
    if rest.startswith(b"---\n"):
        body, after = b"", rest[4:]
    else:
        body, sep, after = rest.partition(b"\n---\n")
        if not sep:
            raise SeriesError("%s: no '---' line after the message" % name)
    notes, sep, diff = after.partition(b"diff --git ")
    if sep:
        diff = sep + diff
    new_files = re.findall(r"^New file: (\S+)$", notes.decode(), re.M)
    subject = re.sub(r"^\[PATCH[^]]*\] ", "", fields["Subject"])
    message = subject + "\n"
    if body:
        message += "\n" + body.decode() + "\n"
    return Patch(fields["From"], fields["Date"], message, new_files, diff,
                 name)


def beside(project):
    """(the series below this one in its tree, those above it)."""
    for names in TREES.values():
        if project in names:
            at = names.index(project)
            return names[:at], names[at + 1:]
    raise SeriesError("no series %s" % project)


def patch_dir(project, top=TOP):
    return os.path.join(top, project + "-patches")


def patch_names(project, top=TOP):
    """The file names of a project's patches, in order."""
    directory = patch_dir(project, top)
    if not os.path.isdir(directory):
        return []
    return sorted(n for n in os.listdir(directory)
                  if re.match(r"\d{4}-.*\.patch$", n))


def load(project, top=TOP):
    """All patches of a project, in order."""
    patches = []
    for name in patch_names(project, top):
        with open(os.path.join(patch_dir(project, top), name), "rb") as f:
            patches.append(parse(f.read(), name))
    return patches


def home(project, path, top=TOP):
    """Where this repository keeps the new file of that path in the tree.

    None when it has no place for it (a file of qemu outside QEMU_DIRS).
    """
    if project != "qemu":
        return os.path.join(patch_dir(project, top), "new", path)
    if path in SHARED:
        return os.path.join(top, SHARED[path])
    if path.startswith(QEMU_DIRS):
        return os.path.join(top, path)
    return None


def new_files(project, top=TOP):
    """Every new file this repository holds for a project: sorted paths."""
    found = []
    if project != "qemu":
        roots = [(os.path.join(patch_dir(project, top), "new"), "")]
    else:
        roots = [(d.rstrip("/"), d) for d in QEMU_DIRS]
        found = [p for p, h in SHARED.items()
                 if os.path.exists(os.path.join(top, h))]
    for root, prefix in roots:
        start = os.path.join(top, root)
        for directory, subdirs, files in os.walk(start):
            subdirs[:] = [d for d in subdirs if d != "__pycache__"]
            for name in files:
                if name.endswith(("~", ".orig", ".rej", ".swp", ".o")):
                    continue
                rel = os.path.relpath(os.path.join(directory, name), start)
                found.append(prefix + rel)
    return sorted(found)


def slug(subject):
    """A patch's file name from its subject, without the number."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", subject).strip("-.")[:52].strip("-.")
