# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that lease cores without a
# guest, by tools/lease.c.  Sourced, never run.  One lease at a time: it has
# descriptor 4 for itself.

. /host/tests/inside/lib/within.sh

# lease ARGUMENT...: of the program, to hold cores until release.  What is refused
# is printed, and fails.
lease() {
	rm -f /tmp/lease.in
	mkfifo /tmp/lease.in
	"$FILES/lease" "$@" </tmp/lease.in >/tmp/lease 2>&1 &
	_lease=$!
	exec 4>/tmp/lease.in
	within 60 grep -qs . /tmp/lease
	cat /tmp/lease
	grep -q '^leased' /tmp/lease && not grep -q '^cpu=' /tmp/lease
}

release() {
	exec 4>&-
	wait $_lease
}
