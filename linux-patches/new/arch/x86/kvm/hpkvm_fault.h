/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM dedicated cores: deliberate mistakes.  See hpkvm_fault.c.
 *
 * Nothing at all without CONFIG_KVM_HPKVM_FAULTS.
 */
#ifndef __KVM_X86_HPKVM_FAULT_H
#define __KVM_X86_HPKVM_FAULT_H

#include <linux/types.h>

struct kvm_vcpu;

/*
 * Where an interrupt changes hands:
 * @HPKVM_FAULT_SEND: from a sender on any CPU to the core
 * @HPKVM_FAULT_INJECT: from KVM's IRR to the core's, at entry
 * @HPKVM_FAULT_CAPTURE: from what came in while the host ran, at entry
 * @HPKVM_FAULT_PROMOTE: a counting timer, from KVM's hrtimer to the core's
 * @HPKVM_FAULT_DEMOTE: from the core's IRR to KVM's
 *
 * A rebind is a demotion on one core and a promotion on another.
 */
enum hpkvm_fault_point {
	HPKVM_FAULT_SEND,
	HPKVM_FAULT_INJECT,
	HPKVM_FAULT_CAPTURE,
	HPKVM_FAULT_PROMOTE,
	HPKVM_FAULT_DEMOTE,
	HPKVM_FAULT_NR
};

#ifdef CONFIG_KVM_HPKVM_FAULTS

void hpkvm_fault_init(void);
void hpkvm_fault_exit(void);
bool hpkvm_fault_drop(struct kvm_vcpu *vcpu, enum hpkvm_fault_point point,
		      u8 vector);
u8 hpkvm_fault_again(struct kvm_vcpu *vcpu);
bool hpkvm_fault_armed(enum hpkvm_fault_point point);
int kvm_hpkvm_fault_producer(void);

#else

static inline int kvm_hpkvm_fault_producer(void) { return 0; }

static inline void hpkvm_fault_init(void) { }
static inline void hpkvm_fault_exit(void) { }

static inline bool hpkvm_fault_drop(struct kvm_vcpu *vcpu,
				    enum hpkvm_fault_point point, u8 vector)
{
	return false;
}

static inline bool hpkvm_fault_armed(enum hpkvm_fault_point point)
{
	return false;
}

static inline u8 hpkvm_fault_again(struct kvm_vcpu *vcpu)
{
	return 0;
}

#endif
#endif /* __KVM_X86_HPKVM_FAULT_H */
