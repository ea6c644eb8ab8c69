# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that print results in TAP
# form; nothing else in it does.  Sourced, never run.  Numbers and the plan are
# the business of who listens (tests/lib/tap.py).

. /host/tests/inside/lib/within.sh

# result STATUS NAME: good if it is 0.
result() {
	[ "$1" -eq 0 ] || printf 'not '
	echo "ok - $2"
}

# notes: what comes in, as explanation of the result before.
# Not sed: the last line needs an end, or the next result has no line.
notes() { awk '{ print "# " $0 }'; }

# ok NAME COMMAND...: the test passes when COMMAND does.
ok() {
	local name=$1 status
	shift
	"$@" >/tmp/tap-output 2>&1
	status=$?
	result $status "$name"
	[ $status -eq 0 ] || echo "failed: $*" | notes
	notes </tmp/tap-output
}

# skip NAME WHY: what this host can't do.
skip() { result 0 "$1 # SKIP $2"; }

# results_of NAME: of a program's TAP output that comes in, its results, as ours.
results_of() {
	sed -En "s|^((not )?ok) [0-9]+ (- )?(.*)|\1 - $1: \4|p"
}
