// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM dedicated cores on SVM: the VMCB bits and the MSR permission map.
 *
 * Only what AMD-V does its own way (AMD APM vol. 2, 15.21.1 and 15.13.1); the
 * state machine is in ../hpkvm.c.
 */
#include <linux/kvm_host.h>
#include <asm/svm.h>

#include "../hpkvm.h"
#include "svm.h"

/* Intercepts that F_DIRECT_HLT clears: the last ones if a guest may MWAIT. */
static const u8 hlt_intercepts[] = {
	INTERCEPT_HLT, INTERCEPT_PAUSE, INTERCEPT_MONITOR, INTERCEPT_MWAIT,
	INTERCEPT_MWAIT_COND,
};

#define NR_WITHOUT_MWAIT	2

/* A guest's GIF masks no physical interrupts: know when it clears it. */
#define CLGI_INTERCEPT_SET	BIT(31)

static void svm_hpkvm_clear_hlt(struct vcpu_svm *svm, u64 *cleared)
{
	unsigned int i, nr = ARRAY_SIZE(hlt_intercepts);

	if (!kvm_hpkvm_may_disable_exits(KVM_X86_DISABLE_EXITS_MWAIT))
		nr = NR_WITHOUT_MWAIT;
	for (i = 0; i < nr; i++) {
		if (!svm_is_intercept(svm, hlt_intercepts[i]))
			continue;
		*cleared |= BIT(i);
		svm_clr_intercept(svm, hlt_intercepts[i]);
	}
}

static void svm_hpkvm_restore_hlt(struct vcpu_svm *svm, u64 cleared)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(hlt_intercepts); i++) {
		if (cleared & BIT(i))
			svm_set_intercept(svm, hlt_intercepts[i]);
	}
}

/*
 * With V_INTR_MASKING 0 the guest's RFLAGS.IF and CR8 are the ones that mask
 * physical interrupts (AMD APM vol. 2, 15.21.1).
 */
static void svm_hpkvm_set_passthrough(struct kvm_vcpu *vcpu, bool on)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	struct vmcb_control_area *control = &svm->vmcb->control;
	u64 *cleared = &vcpu->arch.hpkvm.vendor;

	if (on) {
		*cleared = 0;
		svm_clr_intercept(svm, INTERCEPT_INTR);
		svm_clr_intercept(svm, INTERCEPT_VINTR);
		svm_clr_intercept(svm, INTERCEPT_CR8_WRITE);
		control->int_ctl &= ~(V_INTR_MASKING_MASK | V_IRQ_MASK | V_TPR_MASK);
		if (vcpu->kvm->arch.hpkvm_features & KVM_HPKVM_F_DIRECT_HLT)
			svm_hpkvm_clear_hlt(svm, cleared);
		if (!svm_is_intercept(svm, INTERCEPT_CLGI)) {
			svm_set_intercept(svm, INTERCEPT_CLGI);
			*cleared |= CLGI_INTERCEPT_SET;
		}
	} else {
		svm_set_intercept(svm, INTERCEPT_INTR);
		control->int_ctl |= V_INTR_MASKING_MASK;
		svm_hpkvm_restore_hlt(svm, *cleared);
		if (*cleared & CLGI_INTERCEPT_SET)
			svm_clr_intercept(svm, INTERCEPT_CLGI);
	}
	vmcb_mark_dirty(svm->vmcb, VMCB_INTR);
}

static void svm_hpkvm_open_msr(struct kvm_vcpu *vcpu, u32 msr, bool read,
			       bool write)
{
	struct vcpu_svm *svm = to_svm(vcpu);
	u32 offset = svm_msrpm_offset(msr);
	unsigned int bit = 2 * (msr & 0xf);

	if (WARN_ON_ONCE(offset == MSR_INVALID))
		return;
	/* A set bit intercepts: the even one reads, the odd one writes. */
	svm->msrpm[offset] &= ~(3u << bit);
	svm->msrpm[offset] |= ((read ? 0u : 1u) | (write ? 0u : 2u)) << bit;
	vmcb_mark_dirty(svm->vmcb, VMCB_PERM_MAP);
}

static void svm_hpkvm_trap_cr8(struct kvm_vcpu *vcpu, bool trap)
{
	struct vcpu_svm *svm = to_svm(vcpu);

	if (trap) {
		svm_set_intercept(svm, INTERCEPT_CR8_READ);
		svm_set_intercept(svm, INTERCEPT_CR8_WRITE);
	} else {
		svm_clr_intercept(svm, INTERCEPT_CR8_READ);
		svm_clr_intercept(svm, INTERCEPT_CR8_WRITE);
	}
}

/* Any exit has ended a HLT; a kick that comes first must be found by the next. */
static void svm_hpkvm_trap_hlt(struct kvm_vcpu *vcpu, bool trap)
{
	if (trap)
		svm_set_intercept(to_svm(vcpu), INTERCEPT_HLT);
	else
		svm_clr_intercept(to_svm(vcpu), INTERCEPT_HLT);
}

/**
 * svm_hpkvm_abandon_entry - there is no VMRUN, as kvm_hpkvm_enter() refused
 * @vcpu: the vCPU
 *
 * The exit looks like one that an NMI made just before the guest's first
 * instruction: nobody does anything about it.
 */
void svm_hpkvm_abandon_entry(struct kvm_vcpu *vcpu)
{
	struct vmcb_control_area *control = &to_svm(vcpu)->vmcb->control;

	control->exit_code = SVM_EXIT_NMI;
	control->exit_info_1 = 0;
	control->exit_info_2 = 0;
}

static struct kvm_hpkvm_ops svm_hpkvm_ops = {
	.features		= KVM_HPKVM_F_ALL,
	.set_passthrough	= svm_hpkvm_set_passthrough,
	.open_msr		= svm_hpkvm_open_msr,
	.trap_cr8		= svm_hpkvm_trap_cr8,
	.trap_hlt		= svm_hpkvm_trap_hlt,
};

void svm_hpkvm_setup(bool on)
{
	/* Without it the assembly would have to decode the instruction. */
	svm_hpkvm_ops.fast_ipi = nrips;
	/* Without nested paging the guest's #PF would exit. */
	kvm_hpkvm_set_ops(on ? &svm_hpkvm_ops : NULL,
			  npt_enabled ? NULL : "no nested paging (kvm_amd.npt)");
}
