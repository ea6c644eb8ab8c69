/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * KVM dedicated cores: what kvm_host.h needs to know.
 *
 * State only; the functions are in arch/x86/kvm/hpkvm.h.
 */
#ifndef _ASM_X86_KVM_HPKVM_HOST_H
#define _ASM_X86_KVM_HPKVM_HOST_H

#include <linux/atomic.h>
#include <linux/bitmap.h>
#include <linux/cpumask.h>
#include <linux/types.h>

struct kvm_vcpu;
struct task_struct;

/*
 * struct hpkvm_ipi_target - a vCPU in passthrough, as its VM's senders see it
 * @apicid: of its core
 * @captured: dedicated_cpu's of its core
 * @handled: vectors whose EOI somebody waits for
 */
struct hpkvm_ipi_target {
	u32 apicid;
	const unsigned long *captured;
	const unsigned long *handled;
};

/* As many as a cluster-logical destination can name. */
#define HPKVM_IPI_TARGETS	16

/*
 * struct hpkvm_ipi_sender - for the code that sends IPIs right after an exit
 * @map: the VM's, or NULL to have C do it
 * @self: the vCPU's APIC ID
 * @busy: that code is using the map
 * @icr: what the guest wrote to its ICR last
 * @sent: how many of its ICR writes never got to C
 * @seen: how many of @sent are in the statistics
 * @targets: of the ICR write that is under way
 */
struct hpkvm_ipi_sender {
	struct hpkvm_ipi_target **map;
	u32 self;
	u8 busy;
	u64 icr;
	u64 sent;
	u64 seen;
	struct hpkvm_ipi_target *targets[HPKVM_IPI_TARGETS];
};

/*
 * struct kvm_vcpu_hpkvm - a vCPU's dedicated core
 * @cpu: the bound host CPU, -1 if unbound
 * @passthrough: the guest drives the core's local APIC; read by senders that
 *	are counted in @senders
 * @timer_direct: LVTT and its count belong to the guest
 * @deadline_open: TSC_DEADLINE is not intercepted
 * @eoi_trapped: EOI and TMR are intercepted, some @eoi_vectors are in flight
 * @gate_shut: runs with the gate shut until it signals EOI for dedicated_cpu's
 *	@aside vector
 * @hlt_trapped: the next HLT is intercepted, for a kick that came before it
 * @nested: the guest has run a guest of its own since it enabled SVM or VMX
 * @scanning: ioapic_handled_vectors is out of date; read by any CPU
 * @reason: enum kvm_hpkvm_reason, why not passthrough
 * @timer_why: enum kvm_hpkvm_timer_reason, why not @timer_direct
 * @timer_state: what user space is told of the timer, see hpkvm_note_timer();
 *	read by any CPU
 * @lvtt: the virtual LVTT that the physical one was programmed from
 * @deadline: what the core's timer counts down for the guest, which wrote it to
 *	TSC_DEADLINE, on a host that has none; 0 for none
 * @tsc_offset: the guest's, that a deadline in the core's timer goes by
 * @period_end: when the period ends that the core's timer was in when it was
 *	taken from the guest
 * @eoi_vectors: in flight, and somebody waits for their EOI; read by any CPU
 * @scanned: what will be in ioapic_handled_vectors when it is complete
 * @vendor: for the vendor's set_passthrough()
 * @task: whose affinity unbind restores to @affinity
 * @timer_advance_ns: what the local APIC's was before the lease
 * @kicks_before: the core's count of NMIs at bind
 * @ipi: sends to other vCPUs' cores
 * @ipi_target: is what those send to
 * @senders: how many are just sending to the core, by C
 * @direct_sent: physical IPIs that other CPUs sent to the core, by C
 * @fault_vector: hpkvm_fault.c delivers it once more, 0 if none
 *
 * All but @senders, @direct_sent and @fault_vector is written by the vCPU's
 * thread, with the vCPU loaded.
 */
struct kvm_vcpu_hpkvm {
	int cpu;
	bool passthrough;
	bool timer_direct;
	bool deadline_open;
	bool eoi_trapped;
	bool gate_shut;
	bool hlt_trapped;
	bool nested;
	bool scanning;
	u32 reason;
	u32 timer_why;
	u32 timer_state;
	u32 lvtt;
	u64 deadline;
	u64 tsc_offset;
	ktime_t period_end;
	DECLARE_BITMAP(eoi_vectors, 256);
	DECLARE_BITMAP(scanned, 256);
	u64 vendor;
	struct task_struct *task;
	cpumask_var_t affinity;
	u32 timer_advance_ns;
	u32 kicks_before;
	struct hpkvm_ipi_sender ipi;
	struct hpkvm_ipi_target ipi_target;
	atomic_t senders;
	atomic64_t direct_sent;
#ifdef CONFIG_KVM_HPKVM_FAULTS
	u8 fault_vector;
#endif
};

/*
 * struct kvm_irqfd_hpkvm - the interrupt of a VFIO device
 * @direct: in the VM's list while it has @vcpu, whatever happens to the irqfd
 * @vcpu: whose core it goes to, NULL if it goes to the host
 * @left: the vCPU whose core it went to, until kvm_hpkvm_irq_forwarded()
 * @host_irq: the Linux interrupt, while it has @vcpu
 * @vector: the guest's vector
 * @reason: enum kvm_hpkvm_irq_reason, why it has no @vcpu
 * @keep_host: user space does not want it to have a @vcpu
 * @unconfirmed: the IOMMU has once not said that it took an entry
 * @directed: times it was directed to a core
 * @ended: times it went back to the host
 * @forwarded: times it was pending in the core at a demotion
 */
struct kvm_irqfd_hpkvm {
	struct hlist_node direct;
	struct kvm_vcpu *vcpu;
	struct kvm_vcpu *left;
	unsigned int host_irq;
	u8 vector;
	u32 reason;
	bool keep_host;
	bool unconfirmed;
	u64 directed;
	u64 ended;
	u64 forwarded;
};

#endif /* _ASM_X86_KVM_HPKVM_HOST_H */
