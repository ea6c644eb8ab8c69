// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM dedicated cores on VMX: the VM-execution controls, the MSR bitmap, and
 * how an entry that is under way is stopped.
 *
 * Only what Intel VT-x does its own way (Intel SDM vol. 3, 25.6.1, 25.6.2 and
 * 26.5.1); the state machine is in ../hpkvm.c.
 */
#include <linux/kvm_host.h>
#include <asm/vmx.h>

#include "../hpkvm.h"
#include "capabilities.h"
#include "posted_intr.h"
#include "vmx.h"
#include "x86_ops.h"

/* With external interrupts and CR8 the guest's own, nothing is left of it. */
#define HPKVM_TPR_CONTROLS	(CPU_BASED_TPR_SHADOW |		\
				 CPU_BASED_CR8_LOAD_EXITING |	\
				 CPU_BASED_CR8_STORE_EXITING)

/* What F_DIRECT_HLT clears, and if a guest may MWAIT. */
#define HPKVM_HLT_CONTROLS	(CPU_BASED_HLT_EXITING |	\
				 CPU_BASED_PAUSE_EXITING)
#define HPKVM_MWAIT_CONTROLS	(CPU_BASED_MONITOR_EXITING |	\
				 CPU_BASED_MWAIT_EXITING)

/*
 * Without external-interrupt exiting the guest's RFLAGS.IF and CR8 are the
 * ones that mask physical interrupts.  x2APIC virtualization needs the TPR
 * shadow.  kvm_vcpu_hpkvm's @vendor keeps what off has to bring back: the
 * primary controls in the lower half, the secondary ones in the upper.
 */
static void vmx_hpkvm_on(struct kvm_vcpu *vcpu)
{
	bool hlt = vcpu->kvm->arch.hpkvm_features & KVM_HPKVM_F_DIRECT_HLT;
	bool mwait = hlt &&
		     kvm_hpkvm_may_disable_exits(KVM_X86_DISABLE_EXITS_MWAIT);
	struct vcpu_vmx *vmx = to_vmx(vcpu);
	u32 exec = exec_controls_get(vmx);
	u32 secondary = secondary_exec_controls_get(vmx);
	u32 exec_off, secondary_off;

	exec_off = exec & (HPKVM_TPR_CONTROLS |
			   (hlt ? HPKVM_HLT_CONTROLS : 0) |
			   (mwait ? HPKVM_MWAIT_CONTROLS : 0));
	secondary_off = secondary & (hlt ? SECONDARY_EXEC_PAUSE_LOOP_EXITING : 0);
	vcpu->arch.hpkvm.vendor = (u64)secondary_off << 32 | exec_off;

	vmcs_writel(HOST_RIP, (unsigned long)vmx_hpkvm_vmexit);
	pin_controls_clearbit(vmx, PIN_BASED_EXT_INTR_MASK);
	vm_exit_controls_clearbit(vmx, VM_EXIT_ACK_INTR_ON_EXIT);
	secondary_exec_controls_set(vmx, secondary & ~(secondary_off |
				    SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE));
	exec_controls_set(vmx, exec & ~(exec_off |
					CPU_BASED_INTR_WINDOW_EXITING));
}

/*
 * The hardware keeps a guest that sleeps in HLT asleep across exits.
 *
 * Return: whether it did.
 */
static bool vmx_hpkvm_wake(struct kvm_vcpu *vcpu)
{
	if (vmcs_read32(GUEST_ACTIVITY_STATE) != GUEST_ACTIVITY_HLT)
		return false;
	vmcs_write32(GUEST_ACTIVITY_STATE, GUEST_ACTIVITY_ACTIVE);
	return true;
}

/* Stock KVM wants to know, to wake it up and to tell user space. */
static void vmx_hpkvm_export_hlt(struct kvm_vcpu *vcpu)
{
	if (vmx_hpkvm_wake(vcpu) &&
	    vcpu->arch.mp_state == KVM_MP_STATE_RUNNABLE)
		vcpu->arch.mp_state = KVM_MP_STATE_HALTED;
}

static void vmx_hpkvm_off(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);
	u64 vendor = vcpu->arch.hpkvm.vendor;

	exec_controls_set(vmx, exec_controls_get(vmx) | (u32)vendor);
	secondary_exec_controls_set(vmx, secondary_exec_controls_get(vmx) |
					 vendor >> 32);
	vm_exit_controls_setbit(vmx, VM_EXIT_ACK_INTR_ON_EXIT);
	pin_controls_setbit(vmx, PIN_BASED_EXT_INTR_MASK);
	vmcs_writel(HOST_RIP, (unsigned long)vmx_vmexit);

	/* All x2APIC MSRs are closed by now: open what stock KVM would. */
	vmx->x2apic_msr_bitmap_mode = 0;
	vmx_set_virtual_apic_mode(vcpu);
	vmx_hpkvm_export_hlt(vcpu);
}

static void vmx_hpkvm_set_passthrough(struct kvm_vcpu *vcpu, bool on)
{
	if (on)
		vmx_hpkvm_on(vcpu);
	else
		vmx_hpkvm_off(vcpu);
}

static void vmx_hpkvm_open_msr(struct kvm_vcpu *vcpu, u32 msr, bool read,
			       bool write)
{
	unsigned long *bitmap = to_vmx(vcpu)->vmcs01.msr_bitmap;

	if (read)
		vmx_clear_msr_bitmap_read(bitmap, msr);
	else
		vmx_set_msr_bitmap_read(bitmap, msr);
	if (write)
		vmx_clear_msr_bitmap_write(bitmap, msr);
	else
		vmx_set_msr_bitmap_write(bitmap, msr);
}

static void vmx_hpkvm_trap_cr8(struct kvm_vcpu *vcpu, bool trap)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (trap)
		exec_controls_setbit(vmx, CPU_BASED_CR8_LOAD_EXITING |
					  CPU_BASED_CR8_STORE_EXITING);
	else
		exec_controls_clearbit(vmx, CPU_BASED_CR8_LOAD_EXITING |
					    CPU_BASED_CR8_STORE_EXITING);
}

static void vmx_hpkvm_trap_hlt(struct kvm_vcpu *vcpu, bool trap)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	if (trap)
		exec_controls_setbit(vmx, CPU_BASED_HLT_EXITING);
	else
		exec_controls_clearbit(vmx, CPU_BASED_HLT_EXITING);
}

/*
 * In NMI context, somewhere between kvm_hpkvm_enter() and kvm_hpkvm_exit().
 * A preemption timer of 0 exits before the guest's first instruction and
 * before any interrupt of its (Intel SDM vol. 3, 27.7.4).  After the exit it
 * does no harm: vmx_update_hv_timer() writes it anew.
 */
static void vmx_hpkvm_stop_entry(void)
{
	struct vcpu_vmx *vmx = to_vmx(kvm_get_running_vcpu());

	vmcs_write32(VMX_PREEMPTION_TIMER_VALUE, 0);
	vmx->loaded_vmcs->hv_timer_soft_disabled = false;
}

/**
 * vmx_hpkvm_abandon_entry - there is no VM entry, as kvm_hpkvm_enter() refused
 * @vcpu: the vCPU
 *
 * The exit looks like one that the preemption timer made just before the
 * guest's first instruction: nobody does anything about it.
 */
void vmx_hpkvm_abandon_entry(struct kvm_vcpu *vcpu)
{
	struct vcpu_vmx *vmx = to_vmx(vcpu);

	vmx->fail = 0;
	vmx->idt_vectoring_info = 0;
	vmx->exit_reason.full = EXIT_REASON_PREEMPTION_TIMER;
}

static struct kvm_hpkvm_ops vmx_hpkvm_ops __ro_after_init = {
	.features		= KVM_HPKVM_F_ALL,
	.set_passthrough	= vmx_hpkvm_set_passthrough,
	.open_msr		= vmx_hpkvm_open_msr,
	.trap_cr8		= vmx_hpkvm_trap_cr8,
	.trap_hlt		= vmx_hpkvm_trap_hlt,
	.wake			= vmx_hpkvm_wake,
	.stop_entry		= vmx_hpkvm_stop_entry,
	.leave_cpu		= vmx_pi_leave_cpu,
};

static const char *vmx_hpkvm_lacks(bool preemption_timer)
{
	if (kvm_is_using_evmcs())
		return "Hyper-V's enlightened VMCS";
	/* Without EPT the guest's #PF would exit. */
	if (!enable_ept)
		return "no EPT (kvm_intel.ept)";
	if (!cpu_has_vmx_msr_bitmap())
		return "CPU: no MSR bitmaps";
	if (!preemption_timer)
		return "no VMX preemption timer";
	return NULL;
}

void vmx_hpkvm_setup(bool on, bool preemption_timer)
{
	/*
	 * Legacy IBRS counts only if it was written after the exit, and the assembly
	 * writes nothing: NMIs that come meanwhile would run without it.
	 */
	vmx_hpkvm_ops.fast_ipi = !cpu_feature_enabled(X86_FEATURE_KERNEL_IBRS);
	kvm_hpkvm_set_ops(on ? &vmx_hpkvm_ops : NULL,
			  vmx_hpkvm_lacks(preemption_timer));
}
