# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions that print results in TAP form.  Sourced, never run.  The
# plan is the runner's business (tests/outside/run-in-host).

# ok NAME COMMAND...: the test passes when COMMAND does.
ok() {
	_name=$1
	shift
	if "$@" >/tmp/tap-output 2>&1; then
		echo "ok - $_name"
	else
		echo "not ok - $_name"
		echo "# failed: $*"
	fi
	# Not sed: the last line needs an end, or the next result has no line.
	awk '{ print "# " $0 }' /tmp/tap-output
}

# skip NAME WHY: what this host can't do.
skip() { echo "ok - $1 # SKIP $2"; }

not() { ! "$@"; }
