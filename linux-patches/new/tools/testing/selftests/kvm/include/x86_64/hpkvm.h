/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Helpers for the tests of KVM's dedicated cores (KVM_CAP_X86_HPKVM).
 *
 * Thin wrappers of the ioctls that hand back errno and the reason code, the
 * search for cores that can be leased, and the checks that show a core works
 * for the host.  Nothing here may hide a refusal: callers assert on it.
 */
#ifndef SELFTEST_KVM_HPKVM_H
#define SELFTEST_KVM_HPKVM_H

#include <asm/kvm_hpkvm.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"

/* x2APIC registers that apic.h has no name for. */
#define APIC_LDR		0xd0
#define APIC_ISR		0x100
#define APIC_TMR		0x180
#define APIC_MODE_MASK		0x700
#define APIC_LVT0		0x350
#define APIC_SELF_IPI		0x3f0

/* Filled into output fields, to see that the kernel wrote them. */
#define HPKVM_POISON		0xa5

bool hpkvm_supported(void);

/*
 * An attribute of KVM_X86_GRP_HPKVM.  Returns 0 or a positive errno, as
 * KVM_HAS_DEVICE_ATTR must, too.
 */
int hpkvm_get_attr(uint64_t attr, uint64_t *value);

/* Does this host have TSC-deadline mode? */
bool hpkvm_host_has_deadline(void);

/*
 * Nanoseconds of a count for VMs whose timers are to be direct; KVM's own if
 * there is no such rate.
 */
uint64_t hpkvm_bus_cycles_ns(void);

/* Give @vm, which has no vCPU yet, the capability and the host's bus clock. */
void hpkvm_vm_enable(struct kvm_vm *vm, uint32_t features);

/* A VM for @nr_vcpus with these, and no vCPU yet. */
struct kvm_vm *hpkvm_vm_create(uint32_t nr_vcpus, uint32_t features);

/*
 * Bind @vcpu to @cpu.  Returns 0 or a positive errno; @out, which may be NULL,
 * gets the structure as the kernel left it.
 */
int hpkvm_bind(struct kvm_vcpu *vcpu, uint32_t cpu, struct kvm_hpkvm_bind *out);

/* A vCPU and the core that it is bound to. */
struct hpkvm_runner {
	struct kvm_vcpu *vcpu;
	uint32_t core;
};

/*
 * A thread for a guest that never ends: binds and runs the hpkvm_runner @arg.
 * Fails the test if it can't, or if the guest does end.
 */
void *hpkvm_bind_and_run(void *arg);

/* Returns 0 or a positive errno. */
int hpkvm_unbind(struct kvm_vcpu *vcpu);

struct kvm_hpkvm_state hpkvm_state(struct kvm_vcpu *vcpu);

/*
 * Find up to @max host CPUs that can be leased now, highest number first, by
 * leasing and returning each.  Returns how many.
 */
unsigned int hpkvm_find_cores(uint32_t *cores, unsigned int max);

/*
 * What most tests begin with: a core that can be leased, and a VM for two
 * vCPUs whose first exists.  Returns NULL, or why a test must be skipped.
 */
const char *hpkvm_set_up(struct kvm_vm **vm, struct kvm_vcpu **vcpu,
			 uint32_t *core);

/*
 * Milliseconds until @vcpu, which is unbound, could lease @core, or -1 if it
 * could not within @max_ms.  The lease is given back.  One that ends with a
 * file or a process may end a moment later, so this polls.
 */
long hpkvm_wait_leasable(struct kvm_vcpu *vcpu, uint32_t core, long max_ms);

/* How many VMs the host has, or -1 without debugfs. */
int hpkvm_nr_vms(void);

/*
 * A guest that never ends: it keeps its timer armed, and sends interrupts to
 * itself and to its siblings.  hpkvm_busy_vcpu() adds such a vCPU to @vm;
 * hpkvm_busy_interrupts() says how many interrupts all of @vm's have taken.
 */
struct kvm_vcpu *hpkvm_busy_vcpu(struct kvm_vm *vm, uint32_t id);
uint64_t hpkvm_busy_interrupts(struct kvm_vm *vm);

/*
 * The environment variable @name as a number, or @value without it.  For seeds
 * and counts; says which it took, so that a run can be repeated.
 */
uint64_t hpkvm_setting(const char *name, uint64_t value);

/*
 * How often to do what is done @whole times by default: the percentage of it
 * that HPKVM_PERCENT in the environment says.
 */
int hpkvm_count(int whole);

/* The next number of a sequence that depends on the first *@state only. */
uint32_t hpkvm_random(uint64_t *state);

/* Value of the vCPU's binary statistic @name; fails the test if there's none. */
uint64_t hpkvm_vcpu_stat(struct kvm_vcpu *vcpu, const char *name);

/* Has whoever began to wait at @begin waited long enough for what hangs? */
bool hpkvm_is_late(const struct timespec *begin);

/* Wait until @condition.  Returns false if it hangs, true otherwise. */
#define HPKVM_WAIT(condition)						\
({									\
	struct timespec __begin;					\
	bool __met;							\
									\
	clock_gettime(CLOCK_MONOTONIC, &__begin);			\
	while (!(__met = (condition)) && !hpkvm_is_late(&__begin))	\
		usleep(10);						\
	__met;								\
})

/* Wait until @what, which a guest or a thread writes, is @value; or fail. */
#define HPKVM_WAIT_FOR(what, value) hpkvm_wait_for(&(what), value, #what)
void hpkvm_wait_for(uint64_t *what, uint64_t value, const char *name);

/* Pin the calling thread to @cpu. */
void hpkvm_pin(uint32_t cpu);

/* Is @cpu in the list (such as "1,4-7") that @path holds? */
bool hpkvm_cpu_in_list(const char *path, uint32_t cpu);

/* Read or write an MSR of @cpu; fails the test if the kernel won't. */
uint64_t hpkvm_read_msr(uint32_t cpu, uint32_t msr);
void hpkvm_write_msr(uint32_t cpu, uint32_t msr, uint64_t value);

/*
 * Vectors 16 to 31 in @cpu's IRR, as bits: Linux never lets them in, so that
 * one stays there until a lease.
 */
uint32_t hpkvm_stale_vectors(uint32_t cpu);

/* Take @cpu offline or online.  Returns whether the kernel let it. */
bool hpkvm_set_online(uint32_t cpu, bool online);

/*
 * Count of /proc/interrupts' row @row (such as "LOC") on @cpu, or -1 when the
 * row or the CPU isn't there.
 */
long hpkvm_interrupts(const char *row, uint32_t cpu);

/*
 * Does @cpu serve the host: local timer, preemption, reschedule IPIs and
 * function-call IPIs, with /proc/interrupts counting them?  Takes about a
 * second.  Returns "works" if so, else what doesn't.
 */
const char *hpkvm_check_core(uint32_t cpu);

#endif /* SELFTEST_KVM_HPKVM_H */
