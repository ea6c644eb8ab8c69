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

#include "kvm_util.h"
#include "processor.h"

/* x2APIC registers that apic.h has no name for. */
#define APIC_LVT0		0x350
#define APIC_SELF_IPI		0x3f0

/* Filled into output fields, to see that the kernel wrote them. */
#define HPKVM_POISON		0xa5

bool hpkvm_supported(void);

/* A VM for @nr_vcpus with the capability enabled, and no vCPU yet. */
struct kvm_vm *hpkvm_vm_create(uint32_t nr_vcpus, uint32_t features);

/*
 * Bind @vcpu to @cpu.  Returns 0 or a positive errno; @out, which may be NULL,
 * gets the structure as the kernel left it.
 */
int hpkvm_bind(struct kvm_vcpu *vcpu, uint32_t cpu, struct kvm_hpkvm_bind *out);

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

/* Value of the vCPU's binary statistic @name; fails the test if there's none. */
uint64_t hpkvm_vcpu_stat(struct kvm_vcpu *vcpu, const char *name);

/* Pin the calling thread to @cpu. */
void hpkvm_pin(uint32_t cpu);

/* Is @cpu in the list (such as "1,4-7") that @path holds? */
bool hpkvm_cpu_in_list(const char *path, uint32_t cpu);

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
