# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host, which does not survive it, driven by
# nmi-panic: NMIs that nobody has sent are reported on leased cores as on any
# other, and a panic ends it all.
#
# A line "outside: ..." asks nmi-panic to do something.

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/vm.sh

ACCEL=hpkvm,cpus=2-3

# NMIs that the kernel has reported as nobody's on CPU $1.
reported() { dmesg | grep "NMI received for unknown reason .* on CPU $1"; }


vm_start nmi "$ACCEL" forever
ok "the guest boots" vm_wait_for nmi 90 'guest: start'
ok "its vCPUs are in passthrough" vm_dedicated nmi 2
ok "the guest makes progress" vm_moves_on nmi

# Further apart than dedicated_nmi() claims NMIs after the host's last own one:
# for that second, one of nobody's may pass for ours.
for round in 1 2 3 4 5; do
	echo "outside: inject an NMI"
	sleep 2
done
for cpu in 0 1 2 3; do
	ok "an unknown NMI is reported on CPU $cpu" within 60 reported $cpu
done
ok "the guest makes progress after unknown NMIs" vm_moves_on nmi
ok "its vCPUs are in passthrough after unknown NMIs" vm_dedicated nmi 2

echo "outside: watch the panic"
echo c >/proc/sysrq-trigger
