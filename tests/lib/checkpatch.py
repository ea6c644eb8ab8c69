# SPDX-License-Identifier: GPL-2.0-or-later
"""
Run a tree's own checkpatch.pl over its series, one result per patch.

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
import series

# What does not count: (checkpatch's words, in which files, why not).
ACCEPTED = (
    (r"added, moved or deleted file\(s\), does MAINTAINERS need updating", r"",
     "these series are maintained here, not by upstream's maintainers"),
    (r"Alignment should match open parenthesis|"
     r"Lines should not end with a '\('|spaces preferred around that '/'",
     r"trace[^ ]*\.h$", "trace headers are written like this everywhere"),
    (r"Prefer using the BIT macro", r"/uapi/",
     "user space headers do not have it"),
)


def complaints(output):
    """The parts of checkpatch's report that count against a patch."""
    found = []
    for part in re.split(r"^(?=ERROR: |WARNING: |CHECK: )", output,
                         flags=re.M)[1:]:
        match = re.search(r"^#\d+: FILE: (\S+?):\d+:", part, re.M)
        name = match.group(1) if match else ""
        if not any(re.search(words, part) and re.search(files, name)
                   for words, files, _ in ACCEPTED):
            found.append(re.split(r"\n(?:total: |\s*\n)", part)[0])
    return found


def main(project, options):
    tree = os.path.join(tap.build_dir(), "src", project)
    out = tap.Tap()
    # It must not take this repository for the tree's own.
    env = dict(os.environ, GIT_CEILING_DIRECTORIES=os.path.dirname(tree))
    for name, patch, mail in ((name, *both) for name in series.TREES[project]
                              for both in mails.mails(name)):
        with tempfile.NamedTemporaryFile("w", suffix=".patch",
                                         encoding="utf-8") as f:
            f.write(mail)
            f.flush()
            report = subprocess.run(
                ["perl", "scripts/checkpatch.pl", "--no-color",
                 "--no-signoff"] + options + [f.name],
                cwd=tree, env=env, text=True, check=False,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
        wrong = complaints(report)
        if not re.search(r"^total: \d+ errors", report, re.M):
            wrong = [report]
        out.result(not wrong, "%s-patches/%s" % (name, patch.name),
                   "\n".join(wrong))
    if not out.count:
        sys.exit("no patches: is the repository whole?")
    out.end()
