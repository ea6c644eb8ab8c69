# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host: the KVM selftests of dedicated cores, each
# result of each program a result of its own.  A program that reports fewer
# results than it planned is a failure more.  EDU is the PCI address of an edu
# device of the host's, for those that need one.
#
#   PROGRAMS  pattern of their names          (hpkvm_*_test)
#   ONLY      the tests of theirs             (all)
#   ASK       first on this CPU of nohz_full= how fast the host's timers count

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vfio.sh

EDU=0000:00:10.0
if vfio_take $EDU; then
	export HPKVM_EDU=$EDU
fi
# The host looks once, for who asks first: here where the tick has stopped.
if [ -n "$ASK" ]; then
	taskset -c "$ASK" sh -c 'i=0
		while [ $i -lt 20000 ]; do i=$((i + 1)); done
		exec "$0" -t attributes' "$FILES/hpkvm_timer_test" >/dev/null
fi
set --
for only in $ONLY; do
	set -- "$@" -t "$only"
done
for program in "$FILES"/${PROGRAMS:-hpkvm_*_test}; do
	name=$(basename "$program")
	[ -x "$program" ] || exit 1
	timeout 2700 "$program" "$@" >/tmp/selftest 2>&1
	status=$?
	planned=$(sed -n 's/^1\.\.//p' /tmp/selftest)
	run=$(grep -Ec '^(not )?ok [0-9]+ ' /tmp/selftest)
	results_of "$name" </tmp/selftest
	if [ "${planned:-0}" -ne "$run" ] || [ "$run" -eq 0 ]; then
		result 1 "$name: ran to its end"
		echo "status $status, $run of ${planned:-?} results" | notes
	fi
	# This host has all that the tests ask for.
	if grep -q '^ok .*# SKIP' /tmp/selftest; then
		result 1 "$name: nothing is skipped in this host"
		grep SKIP /tmp/selftest | notes
	fi
	if grep -q '^not ok' /tmp/selftest || [ $status -ne 0 ]; then
		notes </tmp/selftest
	fi
done
