// SPDX-License-Identifier: GPL-2.0-only
/*
 * Wrappers of KVM's dedicated-core interface for the hpkvm_* tests.
 *
 * See include/x86_64/hpkvm.h for what each promises.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <sys/sysinfo.h>
#include <time.h>

#include "hpkvm.h"

#define HPKVM_WAIT_SECONDS	20

bool hpkvm_supported(void)
{
	return kvm_check_cap(KVM_CAP_X86_HPKVM) > 0;
}

int hpkvm_get_attr(uint64_t attr, uint64_t *value)
{
	int fd = open_kvm_dev_path_or_exit(), ret;

	ret = __kvm_device_attr_get(fd, KVM_X86_GRP_HPKVM, attr, value) ?
	      errno : 0;
	TEST_ASSERT_EQ(!!ret, !!__kvm_has_device_attr(fd, KVM_X86_GRP_HPKVM,
						      attr));
	close(fd);
	return ret;
}

bool hpkvm_host_has_deadline(void)
{
	uint64_t value = 0;

	hpkvm_get_attr(KVM_X86_HPKVM_DEADLINE, &value);
	return value;
}

uint64_t hpkvm_bus_cycles_ns(void)
{
	uint64_t ns = 0;

	hpkvm_get_attr(KVM_X86_HPKVM_BUS_CYCLES_NS, &ns);
	return ns ?: 1;
}

void hpkvm_vm_enable(struct kvm_vm *vm, uint32_t features)
{
	vm_enable_cap(vm, KVM_CAP_X86_HPKVM, features);
	vm_enable_cap(vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS,
		      hpkvm_bus_cycles_ns());
}

struct kvm_vm *hpkvm_vm_create(uint32_t nr_vcpus, uint32_t features)
{
	struct kvm_vm *vm = vm_create(nr_vcpus);

	hpkvm_vm_enable(vm, features);
	return vm;
}

int hpkvm_bind(struct kvm_vcpu *vcpu, uint32_t cpu, struct kvm_hpkvm_bind *out)
{
	struct kvm_hpkvm_bind bind = { .cpu = cpu };
	int ret;

	bind.reason = ~0u;
	bind.irq = ~0u;
	memset(bind.culprit, HPKVM_POISON, sizeof(bind.culprit));

	ret = __vcpu_ioctl(vcpu, KVM_HPKVM_BIND, &bind) ? errno : 0;
	if (out)
		*out = bind;
	return ret;
}

void *hpkvm_bind_and_run(void *arg)
{
	struct hpkvm_runner *r = arg;

	TEST_ASSERT(!hpkvm_bind(r->vcpu, r->core, NULL), "Can't bind");
	vcpu_run(r->vcpu);
	TEST_FAIL("The guest ended");
	return NULL;
}

int hpkvm_unbind(struct kvm_vcpu *vcpu)
{
	return __vcpu_ioctl(vcpu, KVM_HPKVM_UNBIND, NULL) ? errno : 0;
}

struct kvm_hpkvm_state hpkvm_state(struct kvm_vcpu *vcpu)
{
	struct kvm_hpkvm_state state;

	memset(&state, HPKVM_POISON, sizeof(state));
	vcpu_ioctl(vcpu, KVM_HPKVM_GET_STATE, &state);
	return state;
}

unsigned int hpkvm_find_cores(uint32_t *cores, unsigned int max)
{
	int err, cpu = get_nprocs_conf();
	struct kvm_hpkvm_bind bind;
	struct kvm_vcpu *vcpu;
	unsigned int nr = 0;
	struct kvm_vm *vm;

	if (!hpkvm_supported())
		return 0;

	vm = hpkvm_vm_create(1, KVM_HPKVM_F_DIRECT_IRQ);
	vcpu = vm_vcpu_add(vm, 0, NULL);
	while (nr < max && --cpu >= 0) {
		err = hpkvm_bind(vcpu, cpu, &bind);
		if (err) {
			ksft_print_msg("CPU %d: errno %d, reason %u, irq %u '%.32s'\n",
				       cpu, err, bind.reason, bind.irq,
				       bind.culprit);
			continue;
		}
		TEST_ASSERT(!hpkvm_unbind(vcpu), "Can't unbind CPU %d", cpu);
		cores[nr++] = cpu;
	}
	kvm_vm_free(vm);
	return nr;
}

const char *hpkvm_set_up(struct kvm_vm **vm, struct kvm_vcpu **vcpu,
			 uint32_t *core)
{
	if (!hpkvm_supported())
		return "this kernel or host has no KVM_CAP_X86_HPKVM";
	if (!hpkvm_find_cores(core, 1))
		return "no CPU of this host can be leased";
	*vm = hpkvm_vm_create(2, KVM_HPKVM_F_DIRECT_IRQ);
	*vcpu = vm_vcpu_add(*vm, 0, NULL);
	return NULL;
}

uint64_t hpkvm_vcpu_stat(struct kvm_vcpu *vcpu, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs, *desc;
	uint64_t value = 0;
	bool found = false;
	unsigned int i;
	int fd;

	fd = __vcpu_ioctl(vcpu, KVM_GET_STATS_FD, NULL);
	TEST_ASSERT(fd >= 0, KVM_IOCTL_ERROR(KVM_GET_STATS_FD, fd));
	read_stats_header(fd, &header);
	descs = read_stats_descriptors(fd, &header);

	for (i = 0; i < header.num_desc && !found; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		if (strcmp(desc->name, name))
			continue;
		read_stat_data(fd, &header, desc, &value, 1);
		found = true;
	}

	free(descs);
	close(fd);
	TEST_ASSERT(found, "vCPU has no binary statistic named '%s'", name);
	return value;
}

bool hpkvm_is_late(const struct timespec *begin)
{
	return timespec_elapsed(*begin).tv_sec >= HPKVM_WAIT_SECONDS;
}

void hpkvm_wait_for(uint64_t *what, uint64_t value, const char *name)
{
	TEST_ASSERT(HPKVM_WAIT(READ_ONCE(*what) == value),
		    "%s is %lu, and never %lu", name, READ_ONCE(*what), value);
}

void hpkvm_pin(uint32_t cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(set), &set),
		    __KVM_SYSCALL_ERROR("sched_setaffinity()", -1));
}

long hpkvm_wait_leasable(struct kvm_vcpu *vcpu, uint32_t core, long max_ms)
{
	struct timespec begin, now;
	struct kvm_hpkvm_bind bind;
	long ms;
	int err;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (;;) {
		err = hpkvm_bind(vcpu, core, &bind);
		clock_gettime(CLOCK_MONOTONIC, &now);
		ms = timespec_to_ns(timespec_sub(now, begin)) / 1000000;
		if (!err)
			break;
		if (ms > max_ms) {
			ksft_print_msg("CPU %u can't be leased: errno %d, reason %u\n",
				       core, err, bind.reason);
			return -1;
		}
		usleep(1000);
	}
	TEST_ASSERT(!hpkvm_unbind(vcpu), "Can't unbind CPU %u", core);
	return ms;
}

uint64_t hpkvm_setting(const char *name, uint64_t value)
{
	const char *text = getenv(name);

	if (text)
		value = strtoull(text, NULL, 0);
	ksft_print_msg("%s=%lu\n", name, value);
	return value;
}

int hpkvm_count(int whole)
{
	uint64_t percent = hpkvm_setting("HPKVM_PERCENT", 100);
	int count = whole * percent / 100;

	TEST_ASSERT(count >= 10, "HPKVM_PERCENT=%lu of %d is less than 10",
		    percent, whole);
	return count;
}

/* xorshift64* */
uint32_t hpkvm_random(uint64_t *state)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (*state * 0x2545f4914f6cdd1dull) >> 32;
}
