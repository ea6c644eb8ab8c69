# SPDX-License-Identifier: GPL-2.0-or-later
"""Run a tree's own checkpatch.pl over a series, one result per patch."""

import os
import subprocess
import sys
import tempfile

import tap
import mails


def main(project, options, clean):
    """clean: the phrase of checkpatch's summary when nothing is wrong."""
    tree = os.path.join(tap.build_dir(), "src", project)
    out = tap.Tap()
    # It must not take this repository for the tree's own.
    env = dict(os.environ, GIT_CEILING_DIRECTORIES=os.path.dirname(tree))
    for patch, mail in mails.mails(project):
        with tempfile.NamedTemporaryFile("w", suffix=".patch",
                                         encoding="utf-8") as f:
            f.write(mail)
            f.flush()
            done = subprocess.run(
                ["perl", "scripts/checkpatch.pl", "--no-color"] + options +
                [f.name], cwd=tree, env=env, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        out.result(done.returncode == 0 and clean in done.stdout,
                   patch.name, done.stdout)
    if not out.count:
        sys.exit("no patches: is the repository whole?")
    out.end()
