// SPDX-License-Identifier: GPL-2.0-only
/*
 * Arguments of KVM's dedicated-core interface: the capability, and each
 * refusal of KVM_HPKVM_BIND with its errno and its reason code.
 *
 * No guest runs here.  Needs root, and a host with at least one CPU that can
 * be leased beside CPU 0.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>

#include "hpkvm.h"
#include "hpkvm_harness.h"

#define NOBODY		65534
#define MAX_CPUS	256

FIXTURE(bind) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	uint32_t core;
};

FIXTURE_SETUP(bind)
{
	const char *why = hpkvm_set_up(&self->vm, &self->vcpu, &self->core);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(bind)
{
	kvm_vm_free(self->vm);
}

/* Is a request refused, in all that user space sees of it? */
static bool refused(struct kvm_vcpu *vcpu, uint32_t cpu, int err,
		    uint32_t reason)
{
	struct kvm_hpkvm_bind bind;
	uint32_t mode;
	int got;

	got = hpkvm_bind(vcpu, cpu, &bind);
	mode = hpkvm_state(vcpu).mode;
	if (got == err && bind.reason == reason &&
	    mode == KVM_HPKVM_MODE_UNBOUND)
		return true;

	bind.culprit[sizeof(bind.culprit) - 1] = 0;
	fprintf(stderr,
		"# CPU %u: errno %d (want %d), reason %u (want %u), mode %u, irq %u, culprit '%s'\n",
		cpu, got, err, bind.reason, reason, mode, bind.irq,
		bind.culprit);
	return false;
}

TEST_F(bind, check_extension)
{
	int features = kvm_check_cap(KVM_CAP_X86_HPKVM);

	EXPECT_EQ(features, vm_check_cap(self->vm, KVM_CAP_X86_HPKVM));
	EXPECT_TRUE(features & KVM_HPKVM_F_DIRECT_IRQ);
	EXPECT_EQ(0, features & ~KVM_HPKVM_F_ALL);
}

TEST_F(bind, enable_cap_arguments)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_HPKVM };
	struct kvm_vm *vm = vm_create(1);

	EXPECT_EQ(-1, __vm_enable_cap(vm, KVM_CAP_X86_HPKVM,
				      KVM_HPKVM_F_ALL + 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, __vm_enable_cap(vm, KVM_CAP_X86_HPKVM, BIT_ULL(32)));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, __vm_enable_cap(vm, KVM_CAP_X86_HPKVM, 0));
	EXPECT_EQ(EINVAL, errno);

	cap.flags = 1;
	EXPECT_EQ(-1, __vm_ioctl(vm, KVM_ENABLE_CAP, &cap));
	EXPECT_EQ(EINVAL, errno);

	kvm_vm_free(vm);
}

TEST_F(bind, enable_cap_after_vcpu)
{
	EXPECT_EQ(-1, __vm_enable_cap(self->vm, KVM_CAP_X86_HPKVM,
				      KVM_HPKVM_F_DIRECT_IRQ));
	EXPECT_EQ(EBUSY, errno);
}

TEST_F(bind, enabled_features_are_reported)
{
	uint32_t features = kvm_check_cap(KVM_CAP_X86_HPKVM);
	struct kvm_vm *vm = hpkvm_vm_create(1, features);
	struct kvm_vcpu *vcpu = vm_vcpu_add(vm, 0, NULL);

	EXPECT_EQ(features, hpkvm_state(vcpu).features);
	EXPECT_EQ(KVM_HPKVM_F_DIRECT_IRQ, hpkvm_state(self->vcpu).features);
	kvm_vm_free(vm);
}

TEST_F(bind, not_enabled)
{
	struct kvm_hpkvm_bind bind;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;

	vm = vm_create_with_one_vcpu(&vcpu, NULL);
	EXPECT_EQ(ENOTTY, hpkvm_bind(vcpu, self->core, &bind));
	EXPECT_EQ(KVM_HPKVM_REASON_NOT_ENABLED, bind.reason);
	kvm_vm_free(vm);
}

TEST_F(bind, success_writes_back)
{
	struct kvm_hpkvm_bind bind;

	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, &bind));
	EXPECT_EQ(self->core, bind.cpu);
	EXPECT_EQ(KVM_HPKVM_REASON_NONE, bind.reason);
	EXPECT_EQ(0, bind.irq);
	EXPECT_EQ(0, bind.culprit[0]);
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

TEST_F(bind, bad_pointer)
{
	EXPECT_EQ(-1, ioctl(self->vcpu->fd, KVM_HPKVM_BIND, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(-1, ioctl(self->vcpu->fd, KVM_HPKVM_GET_STATE, NULL));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(KVM_HPKVM_MODE_UNBOUND, hpkvm_state(self->vcpu).mode);
}

TEST_F(bind, bad_flags)
{
	struct kvm_hpkvm_bind bind = { .cpu = self->core, .flags = 1 };
	int i;

	EXPECT_EQ(-1, __vcpu_ioctl(self->vcpu, KVM_HPKVM_BIND, &bind));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(KVM_HPKVM_REASON_BAD_FLAGS, bind.reason);

	for (i = 0; i < ARRAY_SIZE(bind.reserved); i++) {
		bind = (struct kvm_hpkvm_bind){ .cpu = self->core };
		bind.reserved[i] = BIT_ULL(63);
		EXPECT_EQ(-1, __vcpu_ioctl(self->vcpu, KVM_HPKVM_BIND, &bind));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(KVM_HPKVM_REASON_BAD_FLAGS, bind.reason);
	}
	EXPECT_EQ(KVM_HPKVM_MODE_UNBOUND, hpkvm_state(self->vcpu).mode);
}

TEST_F(bind, no_such_cpu)
{
	EXPECT_TRUE(refused(self->vcpu, ~0u, EINVAL, KVM_HPKVM_REASON_CPU_INVALID));
	EXPECT_TRUE(refused(self->vcpu, BIT(31), EINVAL, KVM_HPKVM_REASON_CPU_INVALID));
	EXPECT_TRUE(refused(self->vcpu, 1 << 20, EINVAL, KVM_HPKVM_REASON_CPU_INVALID));
	EXPECT_TRUE(refused(self->vcpu, get_nprocs_conf(), EINVAL, KVM_HPKVM_REASON_CPU_INVALID));
}

TEST_F(bind, offline_cpu)
{
	if (!hpkvm_set_online(self->core, false))
		SKIP(return, "CPU %u can't be taken offline", self->core);
	EXPECT_TRUE(refused(self->vcpu, self->core, ENODEV, KVM_HPKVM_REASON_CPU_OFFLINE));
	ASSERT_TRUE(hpkvm_set_online(self->core, true));

	EXPECT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

TEST_F(bind, leased_by_sibling)
{
	struct kvm_vcpu *other = vm_vcpu_add(self->vm, 1, NULL);

	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_TRUE(refused(other, self->core, EBUSY, KVM_HPKVM_REASON_CPU_LEASED));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
	EXPECT_EQ(0, hpkvm_bind(other, self->core, NULL));
	EXPECT_EQ(0, hpkvm_unbind(other));
}

TEST_F(bind, leased_by_other_vm)
{
	struct kvm_vm *vm = hpkvm_vm_create(1, KVM_HPKVM_F_DIRECT_IRQ);
	struct kvm_vcpu *other = vm_vcpu_add(vm, 0, NULL);

	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_TRUE(refused(other, self->core, EBUSY, KVM_HPKVM_REASON_CPU_LEASED));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
	EXPECT_EQ(0, hpkvm_bind(other, self->core, NULL));
	kvm_vm_free(vm);
}

TEST_F(bind, already_bound)
{
	struct kvm_hpkvm_bind bind;
	uint32_t cpu;

	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	for (cpu = 0; cpu < get_nprocs_conf(); cpu++) {
		EXPECT_EQ(EALREADY, hpkvm_bind(self->vcpu, cpu, &bind));
		EXPECT_EQ(KVM_HPKVM_REASON_ALREADY_BOUND, bind.reason);
	}
	EXPECT_EQ(self->core, hpkvm_state(self->vcpu).cpu);
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

TEST_F(bind, no_lapic)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu;

	vm_enable_cap(vm, KVM_CAP_X86_HPKVM, KVM_HPKVM_F_DIRECT_IRQ);
	vcpu = __vm_vcpu_add(vm, 0);
	EXPECT_TRUE(refused(vcpu, self->core, EINVAL, KVM_HPKVM_REASON_NO_LAPIC));
	kvm_vm_free(vm);
}

/* With all but two CPUs offline and one leased, the other is the last. */
TEST_F_TIMEOUT(bind, last_housekeeping_cpu, 120 * PATIENCE)
{
	struct kvm_vcpu *other = vm_vcpu_add(self->vm, 1, NULL);
	bool taken[MAX_CPUS] = {};
	uint32_t cpu;

	for (cpu = 1; cpu < get_nprocs_conf() && cpu < MAX_CPUS; cpu++) {
		if (cpu != self->core)
			taken[cpu] = hpkvm_set_online(cpu, false);
	}
	EXPECT_EQ(2, get_nprocs());

	EXPECT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_TRUE(refused(other, 0, EBUSY, KVM_HPKVM_REASON_CPU_LAST));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));

	for (cpu = 1; cpu < MAX_CPUS; cpu++) {
		if (taken[cpu])
			EXPECT_TRUE(hpkvm_set_online(cpu, true));
	}
}

TEST_F(bind, leased_cpu_stays_online)
{
	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_FALSE(hpkvm_set_online(self->core, false));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

/*
 * Find an interrupt in use that can be moved to @cpu and move it; returns its
 * number, or 0 if there's none.  @old gets the list it had.
 */
static unsigned int move_irq(uint32_t cpu, char *old, size_t size)
{
	char path[64], value[16];
	unsigned int irq;
	ssize_t n;
	int fd;

	snprintf(value, sizeof(value), "%u", cpu);
	for (irq = 1; irq < 256; irq++) {
		char row[16];

		snprintf(row, sizeof(row), "%u", irq);
		if (hpkvm_interrupts(row, 0) <= 0)
			continue;
		snprintf(path, sizeof(path), "/proc/irq/%u/smp_affinity_list",
			 irq);
		fd = open(path, O_RDWR);
		if (fd < 0)
			continue;
		n = read(fd, old, size - 1);
		if (n > 0 && write(fd, value, strlen(value)) > 0) {
			old[n] = 0;
			close(fd);
			return irq;
		}
		close(fd);
	}
	return 0;
}

static bool irq_names(unsigned int irq, const char *list, uint32_t cpu)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/irq/%u/%s", irq, list);
	return hpkvm_cpu_in_list(path, cpu);
}

/* Is it aimed at @cpu? */
static bool irq_is_at(unsigned int irq, uint32_t cpu)
{
	return irq_names(irq, "effective_affinity_list", cpu);
}

/* Is it meant for @cpu? */
static bool irq_is_for(unsigned int irq, uint32_t cpu)
{
	return irq_names(irq, "smp_affinity_list", cpu);
}

static void restore_irq(unsigned int irq, const char *old)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/irq/%u/smp_affinity_list", irq);
	fd = open(path, O_WRONLY);
	TEST_ASSERT(fd >= 0 && write(fd, old, strlen(old)) > 0,
		    "Can't give IRQ %u its CPUs back", irq);
	close(fd);
}

/* An interrupt that is aimed at the core goes elsewhere, and comes back. */
TEST_F(bind, interrupt_moves)
{
	unsigned int irq;
	char old[64];

	irq = move_irq(self->core, old, sizeof(old));
	if (!irq)
		SKIP(return, "no interrupt can be moved to CPU %u", self->core);

	printf("# moved IRQ %u to CPU %u\n", irq, self->core);
	/* Where interrupts are not remapped it moves when it occurs. */
	if (!irq_is_at(irq, self->core)) {
		restore_irq(irq, old);
		SKIP(return, "IRQ %u has not moved yet", irq);
	}
	EXPECT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_FALSE(irq_is_at(irq, self->core));
	EXPECT_TRUE(irq_is_for(irq, self->core));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
	EXPECT_TRUE(irq_is_at(irq, self->core));
	EXPECT_TRUE(irq_is_for(irq, self->core));

	restore_irq(irq, old);
}

static bool write_file(const char *dir, const char *name, const char *value)
{
	char path[128];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return false;
	ok = write(fd, value, strlen(value)) == strlen(value);
	close(fd);
	return ok;
}

/* A cgroup v2 hierarchy at a path of our own, with one group in it. */
#define CGROUP_ROOT	"/tmp/hpkvm-cgroup"
#define CGROUP		CGROUP_ROOT "/test"

static bool cpuset_enter(uint32_t cpu, bool isolated)
{
	char cpus[16], pid[16];

	snprintf(cpus, sizeof(cpus), "%u", cpu);
	snprintf(pid, sizeof(pid), "%d", getpid());
	mkdir("/tmp", 01777);
	mkdir(CGROUP_ROOT, 0755);
	if (mount("none", CGROUP_ROOT, "cgroup2", 0, NULL))
		return false;
	return write_file(CGROUP_ROOT, "cgroup.subtree_control", "+cpuset") &&
	       !mkdir(CGROUP, 0755) &&
	       write_file(CGROUP, "cpuset.cpus", cpus) &&
	       (!isolated ||
		write_file(CGROUP, "cpuset.cpus.partition", "isolated")) &&
	       write_file(CGROUP, "cgroup.procs", pid);
}

static void cpuset_leave(void)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", getpid());
	write_file(CGROUP_ROOT, "cgroup.procs", pid);
	rmdir(CGROUP);
	umount(CGROUP_ROOT);
	rmdir(CGROUP_ROOT);
}

TEST_F(bind, outside_cpuset)
{
	bool ok = cpuset_enter(0, false);

	if (ok)
		EXPECT_TRUE(refused(self->vcpu, self->core, EPERM,
				    KVM_HPKVM_REASON_CPU_NOT_ALLOWED));
	cpuset_leave();
	if (!ok)
		SKIP(return, "no cgroup v2 cpuset controller");

	EXPECT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

/* Unbind restores the affinity, but no way out of the cpuset. */
TEST_F(bind, unbind_stays_in_cpuset)
{
	cpu_set_t set;
	bool ok;

	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	ok = cpuset_enter(self->core, false);
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
	EXPECT_EQ(0, sched_getaffinity(0, sizeof(set), &set));
	cpuset_leave();
	if (!ok)
		SKIP(return, "no cgroup v2 cpuset controller");
	EXPECT_EQ(1, CPU_COUNT(&set));
	EXPECT_TRUE(CPU_ISSET(self->core, &set));
}

static bool is_isolated(uint32_t cpu)
{
	const char *dir = "/sys/devices/system/cpu/";
	char path[64];

	snprintf(path, sizeof(path), "%s%s", dir, "isolated");
	if (hpkvm_cpu_in_list(path, cpu))
		return true;
	snprintf(path, sizeof(path), "%s%s", dir, "nohz_full");
	return hpkvm_cpu_in_list(path, cpu);
}

/* Dropping the effective user ID drops the effective capabilities. */
static bool become_nobody(void)
{
	return !seteuid(NOBODY);
}

static bool become_root(void)
{
	return !seteuid(0);
}

TEST_F(bind, no_permission)
{
	uint32_t cores[MAX_CPUS];
	unsigned int nr, i;

	nr = hpkvm_find_cores(cores, MAX_CPUS);
	for (i = 0; i < nr && is_isolated(cores[i]); i++)
		;
	if (i == nr)
		SKIP(return, "every CPU that can be leased is isolated");

	ASSERT_TRUE(become_nobody());
	EXPECT_TRUE(refused(self->vcpu, cores[i], EPERM, KVM_HPKVM_REASON_NO_PERMISSION));
	ASSERT_TRUE(become_root());
}

TEST_F(bind, nobody_on_isolated_cpu)
{
	uint32_t cores[MAX_CPUS];
	unsigned int nr, i;

	nr = hpkvm_find_cores(cores, MAX_CPUS);
	for (i = 0; i < nr && !is_isolated(cores[i]); i++)
		;
	if (i == nr)
		SKIP(return, "no CPU that can be leased is isolated");

	ASSERT_TRUE(become_nobody());
	EXPECT_EQ(0, hpkvm_bind(self->vcpu, cores[i], NULL));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
	ASSERT_TRUE(become_root());
}

TEST_F(bind, nobody_in_isolated_partition)
{
	uint32_t cores[MAX_CPUS];
	unsigned int nr, i;
	bool ok;

	nr = hpkvm_find_cores(cores, MAX_CPUS);
	for (i = 0; i < nr && is_isolated(cores[i]); i++)
		;
	if (i == nr)
		SKIP(return, "every CPU that can be leased is isolated by boot parameter");

	ok = cpuset_enter(cores[i], true);
	if (ok) {
		EXPECT_TRUE(become_nobody());
		EXPECT_EQ(0, hpkvm_bind(self->vcpu, cores[i], NULL));
		EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
		EXPECT_TRUE(become_root());
	}
	cpuset_leave();
	if (!ok)
		SKIP(return, "no cgroup v2 isolated partitions");
}

TEST_HARNESS_MAIN
