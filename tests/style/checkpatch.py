# SPDX-License-Identifier: GPL-2.0-or-later
"""
Run a tree's own checkpatch.pl over a series, one result per patch.

Sign-offs are not asked for: whoever mails a series signs it
(hp-patches export --signoff).
"""

import os
import re
import subprocess
import sys
import tempfile

import tap
import mails

# It only asks whether MAINTAINERS wants a line; the answer is no, because
# these series are maintained here and not upstream.
ACCEPTED = r"added, moved or deleted file\(s\), does MAINTAINERS need updating"


def complaints(output):
    """The lines of checkpatch's report that count against a patch."""
    found = re.findall(r"^(?:ERROR|WARNING|CHECK): .*", output, re.M)
    return [line for line in found if not re.search(ACCEPTED, line)]


def main(project, options):
    tree = os.path.join(tap.build_dir(), "src", project)
    out = tap.Tap()
    # It must not take this repository for the tree's own.
    env = dict(os.environ, GIT_CEILING_DIRECTORIES=os.path.dirname(tree))
    for patch, mail in mails.mails(project):
        with tempfile.NamedTemporaryFile("w", suffix=".patch",
                                         encoding="utf-8") as f:
            f.write(mail)
            f.flush()
            report = subprocess.run(
                ["perl", "scripts/checkpatch.pl", "--no-color",
                 "--no-signoff"] + options + [f.name],
                cwd=tree, env=env, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        out.result(re.search(r"^total: \d+ errors", report, re.M) and
                   not complaints(report), patch.name, report)
    if not out.count:
        sys.exit("no patches: is the repository whole?")
    out.end()
