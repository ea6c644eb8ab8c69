# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside the emulated host: libvirt, in the root file system that
# outside/libvirt shares, starts the domain of docs/user-guide.md, which says
# nothing of hpkvm but the emulator's name.  QEMU runs as libvirt runs it: as
# nobody in particular, without capabilities, in its sandbox.  No boot parameter
# isolates a core: a partition of cpusets does, as the guide sets it up, while the
# domain runs.

. /host/tests/inside/lib/tap.sh

ROOT=/host/root
CGROUP=$ROOT/sys/fs/cgroup
G=$CGROUP/hpkvm.partition
BOOT=60

virsh() { chroot $ROOT /usr/bin/virsh -q -c qemu:///system "$@"; }

# Nothing of a run stays in the share.
mount_root() {
	mount -t proc proc $ROOT/proc && mount -t sysfs sys $ROOT/sys &&
		mount --bind /dev $ROOT/dev &&
		mount -t cgroup2 none $CGROUP || return
	for _dir in run tmp etc/libvirt var/lib/libvirt var/log \
		var/cache/libvirt; do
		mount -t tmpfs none $ROOT/$_dir || return
	done
	mkdir -p $ROOT/run/lock $ROOT/var/log/libvirt/qemu \
		$ROOT/var/lib/libvirt/qemu
	chmod 1777 $ROOT/tmp
	# As udev and Debian have it.
	chgrp 994 /dev/kvm && chmod 660 /dev/kvm
}

# The guide's commands; what systemd does at boot comes first.
make_partition() {
	echo +cpuset >$CGROUP/cgroup.subtree_control || return
	mkdir $G && echo 1-3 >$G/cpuset.cpus
}

isolate() {
	echo isolated >$G/cpuset.cpus.partition
	grep -x isolated $G/cpuset.cpus.partition
}

end_partition() {
	rmdir $G/check && echo member >$G/cpuset.cpus.partition && rmdir $G
}

# Who is to run on a core has to be in the partition.
serves() {	# core
	mkdir -p $G/check
	sh -c "echo \$\$ >$G/check/cgroup.procs && exec $FILES/core-check $1"
}

# The rest of libvirt's defaults: this host has neither AppArmor nor virtlogd,
# and busybox for an init.
configure_libvirt() {
	cat >$ROOT/etc/libvirt/qemu.conf <<-END
	user = "libvirt-qemu"
	group = "kvm"
	stdio_handler = "file"
	security_driver = "none"
	namespaces = []
	cgroup_controllers = [ "cpuset" ]
	END
	echo 'auth_unix_rw = "none"' >$ROOT/etc/libvirt/libvirtd.conf
}

start_libvirt() {
	ifconfig lo up
	chroot $ROOT /usr/sbin/libvirtd -d \
		-f /etc/libvirt/libvirtd.conf || return
	within 60 virsh version
}

domain_xml() {
	cat <<-END
	<domain type='kvm'>
	  <name>edge</name>
	  <memory unit='MiB'>192</memory>
	  <vcpu placement='static'>2</vcpu>
	  <cputune>
	    <vcpupin vcpu='0' cpuset='2'/>
	    <vcpupin vcpu='1' cpuset='3'/>
	    <emulatorpin cpuset='1'/>
	  </cputune>
	  <resource><partition>/hpkvm</partition></resource>
	  <os>
	    <type arch='x86_64' machine='q35'>hvm</type>
	    <kernel>/tmp/kernel</kernel>
	    <initrd>/tmp/initrd</initrd>
	    <cmdline>console=ttyS0 quiet panic=-1 isolcpus=1-N -- forever</cmdline>
	  </os>
	  <features><acpi/></features>
	  <cpu mode='host-passthrough'/>
	  <devices>
	    <emulator>/usr/bin/qemu-system-x86_64-hpkvm</emulator>
	    <controller type='usb' model='none'/>
	    <memballoon model='none'/>
	    <serial type='file'><source path='/tmp/serial'/></serial>
	  </devices>
	</domain>
	END
}

define_domain() {
	cp "$GUEST_KERNEL" $ROOT/tmp/kernel
	cp "$FILES/linux.cpio.zst" $ROOT/tmp/initrd
	domain_xml >$ROOT/tmp/edge.xml
	virsh define /tmp/edge.xml
}

info() { virsh qemu-monitor-command edge --hmp 'info hpkvm'; }

# says PATTERN COUNT: so many lines of "info hpkvm" match, or will within 60 s;
# they end in a carriage return.
has_lines() { [ "$(info 2>&1 | grep -c "$1")" -eq "$2" ]; }
says() {
	within 60 has_lines "$@" && return
	info
	tail -n 5 $ROOT/var/log/libvirt/qemu/edge.log
	return 1
}

alive() { grep -ac '^guest: alive' $ROOT/tmp/serial; }

# The guest goes on.
alive_until() { [ "$(alive)" -ge "$1" ]; }
goes_on() { within $BOOT alive_until $(($(alive) + 3)); }

qemu_status() {
	grep "^$1:" "/proc/$(pidof qemu-system-x86_64-hpkvm)/status" |
		tee /dev/stderr | grep -q "$2"
}

ok "the root file system is there" mount_root
ok "no boot parameter isolates CPUs" not grep -E '(isolcpus|nohz_full)=[0-9]' \
	/proc/cmdline
ok "the cgroup of dedicated domains is made" make_partition
configure_libvirt
ok "libvirt starts" start_libvirt
ok "it takes the domain" define_domain
ok "it starts it" virsh start edge
ok "the guest comes up" goes_on
ok "its vCPUs get no core" says 'waiting for .*: cpu [23] is not isolated' 2
ok "the cgroup becomes an isolated partition" isolate
ok "both vCPUs own the core of their vcpupin" says 'passthrough on cpu [23]' 2
ok "QEMU is not root" qemu_status Uid '64055.*64055'
ok "it has no capabilities" qemu_status CapEff '0000000000000000'
ok "its other threads are where emulatorpin says" \
	qemu_status Cpus_allowed_list '1$'

ok "vcpupin moves vCPU 1 to where the rest of QEMU is" \
	virsh vcpupin edge 1 1 --live
ok "it does not own that core" \
	says 'vCPU 1: waiting .*: the rest of QEMU would have no CPU' 1
ok "core 3 serves the host meanwhile" serves 3
ok "vcpupin moves it back" virsh vcpupin edge 1 3 --live
ok "it owns that core again" says 'passthrough on cpu [23]' 2

ok "the domain is suspended" virsh suspend edge
ok "and resumed" virsh resume edge
ok "its vCPUs are in passthrough again" says 'passthrough on cpu [23]' 2
ok "it is saved" virsh save edge /tmp/saved
ok "core 2 serves the host meanwhile" serves 2
ok "it is restored" virsh restore /tmp/saved
ok "the restored guest goes on" goes_on
ok "its vCPUs own their cores" says 'passthrough on cpu [23]' 2
ok "it is reset" virsh reset edge
ok "the guest comes up again" goes_on
ok "with its cores" says 'passthrough on cpu [23]' 2

ok "it is destroyed" virsh destroy edge
for core in 2 3; do
	ok "core $core serves the host afterwards" serves $core
done
ok "the partition is an ordinary cgroup again" end_partition
