/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM dedicated cores: what hpkvm.c, hpkvm_lease.c and hpkvm_timer.c share, and
 * nobody else includes.  What the rest of KVM calls is in hpkvm.h.
 */
#ifndef __KVM_X86_HPKVM_INT_H
#define __KVM_X86_HPKVM_INT_H

#include <linux/kvm_host.h>

#include <asm/apic.h>
#include <asm/dedicated_cpu.h>
#include <asm/kvm_hpkvm.h>

#include "lapic.h"
#include "x86.h"

#define X2APIC_MSR(reg)		(APIC_BASE_MSR + ((reg) >> 4))

#define LVTT_MODES		(APIC_LVT_TIMER_PERIODIC | \
				 APIC_LVT_TIMER_TSCDEADLINE)
/* All that TDCR has. */
#define TDCR_BITS		0xb

/* The physical local APIC as it was found by a demotion. */
struct hpkvm_snapshot {
	bool timer;		/* in: the timer is the guest's; up to @tdcr */
	u64 deadline;		/* guest's TSC, 0 if not armed or fired */
	u32 tmict;
	u32 tmcct;
	u32 tdcr;
	u32 irr[DEDICATED_APIC_WORDS];
	u32 isr[DEDICATED_APIC_WORDS];
};

static inline bool hpkvm_feature(struct kvm_vcpu *vcpu, u32 feature)
{
	return vcpu->kvm->arch.hpkvm_features & feature;
}

static inline void hpkvm_set_vreg(struct kvm_lapic *apic, u32 reg, u32 val)
{
	*(u32 *)(apic->regs + reg) = val;
}

static inline u32 hpkvm_lvtt_mode(u32 lvtt)
{
	return lvtt & LVTT_MODES;
}

static inline bool hpkvm_deadline_mode(struct kvm_vcpu *vcpu)
{
	return hpkvm_lvtt_mode(kvm_lapic_get_reg(vcpu->arch.apic, APIC_LVTT)) ==
	       APIC_LVT_TIMER_TSCDEADLINE;
}

static inline bool hpkvm_tsc_is_scaled(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.l1_tsc_scaling_ratio !=
	       kvm_caps.default_tsc_scaling_ratio;
}

/* hpkvm.c */
int hpkvm_host_unsuitable(struct dedicated_refusal *why);
bool hpkvm_needs_emulation(struct kvm_vcpu *vcpu);
u64 hpkvm_stop_senders(struct kvm_vcpu *vcpu);
void hpkvm_await_arrivals(u64 stopped);

/* hpkvm_lease.c */
int hpkvm_lease_bind(struct kvm_vcpu *vcpu,
		     struct kvm_hpkvm_bind __user *argp);
int hpkvm_lease_unbind(struct kvm_vcpu *vcpu);

/* hpkvm_timer.c */
bool hpkvm_timer_host_has_deadline(void);
u32 hpkvm_timer_why_emulated(struct kvm_vcpu *vcpu);
u32 hpkvm_timer_why_intercepted(struct kvm_vcpu *vcpu);
void hpkvm_timer_write_lvtt(struct kvm_vcpu *vcpu);
void hpkvm_timer_write_deadline(struct kvm_vcpu *vcpu, u64 deadline);
u64 hpkvm_timer_read_deadline(struct kvm_vcpu *vcpu);
void hpkvm_timer_switch_mode(struct kvm_vcpu *vcpu);
void hpkvm_timer_follow_tsc(struct kvm_vcpu *vcpu);
void hpkvm_timer_start(struct kvm_vcpu *vcpu);
void hpkvm_timer_stop(struct kvm_vcpu *vcpu, struct hpkvm_snapshot *snap);
void hpkvm_timer_restore(struct kvm_vcpu *vcpu,
			 const struct hpkvm_snapshot *snap);

#endif /* __KVM_X86_HPKVM_INT_H */
