/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM dedicated cores: the hooks that x86.c, lapic.c and the vendor modules
 * call.  Every hook costs a patched-out branch while no vCPU is bound, and
 * nothing with CONFIG_KVM_HPKVM=n.
 */
#ifndef __KVM_X86_HPKVM_H
#define __KVM_X86_HPKVM_H

#include <linux/dedicated_cpu.h>
#include <linux/jump_label.h>
#include <linux/kvm_host.h>
#include <linux/kvm_irqfd.h>
#include <asm/dedicated_cpu.h>
#include <asm/kvm_hpkvm.h>

#ifdef CONFIG_KVM_HPKVM

/*
 * struct kvm_hpkvm_ops - what differs between VMX and SVM
 * @features: KVM_HPKVM_F_* that this CPU can do
 * @fast_ipi: the guest's ICR writes can be done in assembly
 * @set_passthrough: switch interception of external interrupts and of
 *	what F_DIRECT_HLT names; the vCPU is loaded and not running
 * @open_msr: let the guest @read and @write an MSR without an exit
 * @trap_cr8: intercept CR8 accesses, or not
 * @trap_hlt: intercept HLT in spite of F_DIRECT_HLT, or not
 * @wake: end the HLT that the guest is in, if it is; NULL if no exit leaves it
 *	there
 * @leave_cpu: @cpu has been leased, or is off line: have nothing for any vCPU of
 *	the host's come to its local APIC; NULL if nothing does
 * @stop_entry: in NMI context, have the entry that is under way exit at once;
 *	NULL if no NMI can come between kvm_hpkvm_enter() and kvm_hpkvm_exit()
 */
struct kvm_hpkvm_ops {
	u32 features;
	bool fast_ipi;
	void (*set_passthrough)(struct kvm_vcpu *vcpu, bool on);
	void (*open_msr)(struct kvm_vcpu *vcpu, u32 msr, bool read, bool write);
	void (*trap_cr8)(struct kvm_vcpu *vcpu, bool trap);
	void (*trap_hlt)(struct kvm_vcpu *vcpu, bool trap);
	bool (*wake)(struct kvm_vcpu *vcpu);
	void (*stop_entry)(void);
	void (*leave_cpu)(unsigned int cpu);
};

/* Enabled while a vCPU is bound. */
DECLARE_STATIC_KEY_FALSE(kvm_hpkvm_key);

void kvm_hpkvm_set_ops(const struct kvm_hpkvm_ops *ops, const char *lacks);
u32 kvm_hpkvm_features(void);
bool kvm_hpkvm_may_disable_exits(u32 exits);
int kvm_hpkvm_enable(struct kvm *kvm, u64 features);
int kvm_hpkvm_get_attr(u64 attr, u64 *val);
void kvm_hpkvm_vcpu_create(struct kvm_vcpu *vcpu);
void kvm_hpkvm_vcpu_destroy(struct kvm_vcpu *vcpu);
long kvm_hpkvm_vcpu_ioctl(struct kvm_vcpu *vcpu, unsigned int ioctl,
			  void __user *argp);

bool __kvm_hpkvm_update(struct kvm_vcpu *vcpu);
void __kvm_hpkvm_demote(struct kvm_vcpu *vcpu, u32 reason);
bool __kvm_hpkvm_deliver(struct kvm_vcpu *vcpu, int trig_mode, int vector);
bool __kvm_hpkvm_reg_write(struct kvm_vcpu *vcpu, u32 reg, u32 val);
bool __kvm_hpkvm_reg_read(struct kvm_vcpu *vcpu, u32 reg, u32 *val);
bool __kvm_hpkvm_set_deadline(struct kvm_vcpu *vcpu, u64 data);
bool __kvm_hpkvm_get_deadline(struct kvm_vcpu *vcpu, u64 *data);
bool __kvm_hpkvm_timer_expired(struct kvm_vcpu *vcpu,
			       struct kvm_lapic_state *s);
bool kvm_hpkvm_enter(struct kvm_vcpu *vcpu);
void kvm_hpkvm_exit(struct kvm_vcpu *vcpu);
void __kvm_hpkvm_scan_end(struct kvm_vcpu *vcpu);

int kvm_hpkvm_ipi_init(struct kvm *kvm, bool fast);
void kvm_hpkvm_ipi_destroy(struct kvm *kvm);
void kvm_hpkvm_ipi_add(struct kvm_vcpu *vcpu);
void kvm_hpkvm_ipi_del(struct kvm_vcpu *vcpu);
void kvm_hpkvm_ipi_enter(struct kvm_vcpu *vcpu);
void kvm_hpkvm_ipi_exit(struct kvm_vcpu *vcpu);

void __kvm_hpkvm_irq_add(struct kvm_kernel_irqfd *irqfd);
void __kvm_hpkvm_irq_del(struct kvm_kernel_irqfd *irqfd);
bool __kvm_hpkvm_irq_route(struct kvm *kvm, unsigned int host_irq);
void kvm_hpkvm_irq_promoted(struct kvm_vcpu *vcpu);
void kvm_hpkvm_irq_demote(struct kvm_vcpu *vcpu);
void kvm_hpkvm_irq_forwarded(struct kvm_vcpu *vcpu, const u32 *irr);
int kvm_hpkvm_vm_ioctl(struct kvm *kvm, unsigned int ioctl, void __user *argp);

static inline bool kvm_hpkvm_has_attrs(u32 group)
{
	return group == KVM_X86_GRP_HPKVM;
}

/* kvm_hpkvm_passthrough - does the guest drive a core's local APIC? */
static __always_inline bool kvm_hpkvm_passthrough(struct kvm_vcpu *vcpu)
{
	return static_branch_unlikely(&kvm_hpkvm_key) &&
	       vcpu->arch.hpkvm.passthrough;
}

/*
 * kvm_hpkvm_update - promote or demote as the vCPU's state asks for
 *
 * Return: false if it turns out that the guest sleeps: do not enter it.
 */
static inline bool kvm_hpkvm_update(struct kvm_vcpu *vcpu)
{
	return !static_branch_unlikely(&kvm_hpkvm_key) ||
	       vcpu->arch.hpkvm.cpu < 0 || __kvm_hpkvm_update(vcpu);
}

/*
 * kvm_hpkvm_vcpu_load - the vCPU gets the CPU that it is on
 *
 * While it runs on its core, the core needs no tick: other ioctls and tasks do,
 * and user space if it stays.
 */
static inline void kvm_hpkvm_vcpu_load(struct kvm_vcpu *vcpu, int cpu)
{
	if (!static_branch_unlikely(&kvm_hpkvm_key))
		return;

	if (vcpu->arch.hpkvm.cpu == cpu && vcpu->wants_to_run)
		tick_dedicated_loop_begin();
	else
		tick_dedicated_loop_end(false);
}

/* kvm_hpkvm_vcpu_put - the vCPU gives up the CPU that it is on */
static inline void kvm_hpkvm_vcpu_put(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_hpkvm_key))
		tick_dedicated_loop_end(!vcpu->scheduled_out);
}

/* kvm_hpkvm_demote - have the whole state of the local APIC in KVM's */
static inline void kvm_hpkvm_demote(struct kvm_vcpu *vcpu, u32 reason)
{
	if (kvm_hpkvm_passthrough(vcpu))
		__kvm_hpkvm_demote(vcpu, reason);
}

/* kvm_hpkvm_deliver - send an interrupt to the vCPU's core, if it has one */
static inline bool kvm_hpkvm_deliver(struct kvm_vcpu *vcpu, int trig_mode,
				     int vector)
{
	return static_branch_unlikely(&kvm_hpkvm_key) &&
	       __kvm_hpkvm_deliver(vcpu, trig_mode, vector);
}

static inline bool kvm_hpkvm_reg_write(struct kvm_vcpu *vcpu, u32 reg, u32 val)
{
	return kvm_hpkvm_passthrough(vcpu) &&
	       __kvm_hpkvm_reg_write(vcpu, reg, val);
}

static inline bool kvm_hpkvm_reg_read(struct kvm_vcpu *vcpu, u32 reg, u32 *val)
{
	return kvm_hpkvm_passthrough(vcpu) &&
	       __kvm_hpkvm_reg_read(vcpu, reg, val);
}

static inline bool kvm_hpkvm_set_deadline(struct kvm_vcpu *vcpu, u64 data)
{
	return kvm_hpkvm_passthrough(vcpu) &&
	       __kvm_hpkvm_set_deadline(vcpu, data);
}

static inline bool kvm_hpkvm_get_deadline(struct kvm_vcpu *vcpu, u64 *data)
{
	return kvm_hpkvm_passthrough(vcpu) &&
	       __kvm_hpkvm_get_deadline(vcpu, data);
}

/* kvm_hpkvm_entry_stopped - did stop_entry() cause the last exit, or come late? */
static inline bool kvm_hpkvm_entry_stopped(struct kvm_vcpu *vcpu)
{
	return kvm_hpkvm_passthrough(vcpu) &&
	       __this_cpu_read(dedicated_cpu.stopped);
}

/*
 * kvm_hpkvm_idt - the table that an interrupt of this CPU's goes through
 *
 * Any vCPU may run on a dedicated core.  What interrupts it there is the
 * host's vector or another guest's interrupt, never what the host's table says.
 *
 * Return: its address, 0 if it is the host's.
 */
static inline unsigned long kvm_hpkvm_idt(void)
{
	return static_branch_unlikely(&kvm_hpkvm_key) &&
	       __this_cpu_read(dedicated_cpu.gated) ? dedicated_cpu_idt() : 0;
}

/*
 * kvm_hpkvm_tsc_direct - is the VM's TSC to be the host's?
 * @kvm: the VM
 * @tsc: what it is to be set to; KVM starts a vCPU with 0, QEMU resets to 1
 *
 * TSC_DEADLINE can be the guest's only while it is.
 */
static inline bool kvm_hpkvm_tsc_direct(struct kvm *kvm, u64 tsc)
{
	return tsc <= 1 && kvm->arch.hpkvm_features & KVM_HPKVM_F_DIRECT_TIMER;
}

/* kvm_hpkvm_vm - may vCPUs of this VM have dedicated cores? */
static inline bool kvm_hpkvm_vm(struct kvm *kvm)
{
	return kvm->arch.hpkvm_features;
}

/* kvm_hpkvm_timer_expired - is a timer's interrupt missing from what is saved? */
static inline bool kvm_hpkvm_timer_expired(struct kvm_vcpu *vcpu,
					   struct kvm_lapic_state *s)
{
	return kvm_hpkvm_vm(vcpu->kvm) && __kvm_hpkvm_timer_expired(vcpu, s);
}

/* kvm_hpkvm_can_bypass - may a VFIO interrupt concern any VM of this host? */
static inline bool kvm_hpkvm_can_bypass(void)
{
	return kvm_hpkvm_features() & KVM_HPKVM_F_DIRECT_VFIO;
}

static inline void kvm_hpkvm_irq_add(struct kvm_kernel_irqfd *irqfd)
{
	if (static_branch_unlikely(&kvm_hpkvm_key))
		__kvm_hpkvm_irq_add(irqfd);
}

/*
 * The two do not meet, and the device's may be gone at any time.  Stock KVM does
 * not look at it then.
 */
static inline void kvm_hpkvm_irq_refuse(struct kvm_kernel_irqfd *irqfd)
{
	irqfd->producer = NULL;
}

/* Not a matter of kvm_hpkvm_key: the irqfd itself knows. */
static inline void kvm_hpkvm_irq_del(struct kvm_kernel_irqfd *irqfd)
{
	if (irqfd->hpkvm.vcpu)
		__kvm_hpkvm_irq_del(irqfd);
}

static inline bool kvm_hpkvm_irq_route(struct kvm *kvm, unsigned int host_irq)
{
	return static_branch_unlikely(&kvm_hpkvm_key) &&
	       __kvm_hpkvm_irq_route(kvm, host_irq);
}

/* kvm_hpkvm_pending_eoi - has the core's local APIC @vector, for KVM to see its EOI? */
static inline bool kvm_hpkvm_pending_eoi(struct kvm_vcpu *vcpu, int vector)
{
	return static_branch_unlikely(&kvm_hpkvm_key) &&
	       test_bit(vector, vcpu->arch.hpkvm.eoi_vectors);
}

/*
 * kvm_hpkvm_scan_requested - kvm_check_request(KVM_REQ_SCAN_IOAPIC)
 *
 * Until a scan that was asked for is complete, senders see the request or
 * @scanning, and know that ioapic_handled_vectors is out of date.
 */
static inline bool kvm_hpkvm_scan_requested(struct kvm_vcpu *vcpu)
{
	if (!kvm_test_request(KVM_REQ_SCAN_IOAPIC, vcpu))
		return false;
	if (kvm_hpkvm_vm(vcpu->kvm)) {
		WRITE_ONCE(vcpu->arch.hpkvm.scanning, true);
		/* Who sees no request any more sees this. */
		smp_mb__before_atomic();
	}
	return kvm_check_request(KVM_REQ_SCAN_IOAPIC, vcpu);
}

/*
 * kvm_hpkvm_scan_begin - where to collect the vectors whose EOI KVM must see
 *
 * Senders on other CPUs look at ioapic_handled_vectors at any time, and must not
 * find it half done.
 */
static inline ulong *kvm_hpkvm_scan_begin(struct kvm_vcpu *vcpu)
{
	return kvm_hpkvm_vm(vcpu->kvm) ? vcpu->arch.hpkvm.scanned :
					 vcpu->arch.ioapic_handled_vectors;
}

static inline void kvm_hpkvm_scan_end(struct kvm_vcpu *vcpu)
{
	if (kvm_hpkvm_vm(vcpu->kvm))
		__kvm_hpkvm_scan_end(vcpu);
}

#else /* !CONFIG_KVM_HPKVM */

static inline bool kvm_hpkvm_has_attrs(u32 group) { return false; }
static inline int kvm_hpkvm_get_attr(u64 attr, u64 *val) { return -ENXIO; }
static inline void kvm_hpkvm_ipi_destroy(struct kvm *kvm) { }
static inline void kvm_hpkvm_vcpu_create(struct kvm_vcpu *vcpu) { }
static inline void kvm_hpkvm_vcpu_destroy(struct kvm_vcpu *vcpu) { }
static inline bool kvm_hpkvm_passthrough(struct kvm_vcpu *vcpu) { return false; }
static inline bool kvm_hpkvm_update(struct kvm_vcpu *vcpu) { return true; }
static inline void kvm_hpkvm_vcpu_load(struct kvm_vcpu *vcpu, int cpu) { }
static inline void kvm_hpkvm_vcpu_put(struct kvm_vcpu *vcpu) { }
static inline void kvm_hpkvm_demote(struct kvm_vcpu *vcpu, u32 reason) { }
static inline bool kvm_hpkvm_enter(struct kvm_vcpu *vcpu) { return true; }
static inline void kvm_hpkvm_exit(struct kvm_vcpu *vcpu) { }
static inline bool kvm_hpkvm_entry_stopped(struct kvm_vcpu *vcpu) { return false; }
static inline unsigned long kvm_hpkvm_idt(void) { return 0; }
static inline bool kvm_hpkvm_tsc_direct(struct kvm *kvm, u64 tsc) { return false; }
static inline bool kvm_hpkvm_vm(struct kvm *kvm) { return false; }

static inline bool kvm_hpkvm_timer_expired(struct kvm_vcpu *vcpu,
					   struct kvm_lapic_state *s)
{
	return false;
}

static inline bool kvm_hpkvm_pending_eoi(struct kvm_vcpu *vcpu, int vector) { return false; }
static inline void kvm_hpkvm_scan_end(struct kvm_vcpu *vcpu) { }

static inline bool kvm_hpkvm_scan_requested(struct kvm_vcpu *vcpu)
{
	return kvm_check_request(KVM_REQ_SCAN_IOAPIC, vcpu);
}

static inline ulong *kvm_hpkvm_scan_begin(struct kvm_vcpu *vcpu)
{
	return vcpu->arch.ioapic_handled_vectors;
}

static inline bool kvm_hpkvm_can_bypass(void) { return false; }
static inline void kvm_hpkvm_irq_add(struct kvm_kernel_irqfd *irqfd) { }
static inline void kvm_hpkvm_irq_refuse(struct kvm_kernel_irqfd *irqfd) { }
static inline void kvm_hpkvm_irq_del(struct kvm_kernel_irqfd *irqfd) { }

static inline bool kvm_hpkvm_irq_route(struct kvm *kvm, unsigned int host_irq)
{
	return false;
}

static inline int kvm_hpkvm_vm_ioctl(struct kvm *kvm, unsigned int ioctl,
				     void __user *argp)
{
	return -ENOTTY;
}

static inline u32 kvm_hpkvm_features(void)
{
	return 0;
}

static inline int kvm_hpkvm_enable(struct kvm *kvm, u64 features)
{
	return -EINVAL;
}

static inline long kvm_hpkvm_vcpu_ioctl(struct kvm_vcpu *vcpu,
					unsigned int ioctl, void __user *argp)
{
	return -ENOIOCTLCMD;
}

static inline bool kvm_hpkvm_deliver(struct kvm_vcpu *vcpu, int trig_mode,
				     int vector)
{
	return false;
}

static inline bool kvm_hpkvm_reg_write(struct kvm_vcpu *vcpu, u32 reg, u32 val)
{
	return false;
}

static inline bool kvm_hpkvm_reg_read(struct kvm_vcpu *vcpu, u32 reg, u32 *val)
{
	return false;
}

static inline bool kvm_hpkvm_set_deadline(struct kvm_vcpu *vcpu, u64 data)
{
	return false;
}

static inline bool kvm_hpkvm_get_deadline(struct kvm_vcpu *vcpu, u64 *data)
{
	return false;
}

#endif /* CONFIG_KVM_HPKVM */
#endif /* __KVM_X86_HPKVM_H */
