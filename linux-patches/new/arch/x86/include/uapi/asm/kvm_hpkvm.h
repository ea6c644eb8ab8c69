/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * KVM dedicated cores (hpkvm): the user space interface.
 *
 * This file owns every number and layout that user space sees.  Nothing here
 * may be renumbered or resized: grow by taking reserved fields, which are zero
 * today, and by adding values at the end of an enumeration.  The reasons
 * behind the layout are in docs/uapi.md of the qemu-hpkvm project.
 */
#ifndef _UAPI_ASM_X86_KVM_HPKVM_H
#define _UAPI_ASM_X86_KVM_HPKVM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * KVM_CHECK_EXTENSION(KVM_CAP_X86_HPKVM), system or VM fd: the KVM_HPKVM_F_*
 * this host can do, 0 if none.  KVM_ENABLE_CAP on the VM fd, before the first
 * vCPU is created, with args[0] = the wanted subset.  "HPK" in ASCII, far
 * above the numbers upstream hands out.
 */
#define KVM_CAP_X86_HPKVM	0x48504b

/* External interrupts reach a bound vCPU without an exit; the base of all. */
#define KVM_HPKVM_F_DIRECT_IRQ		0x1
/* The vCPU programs and receives the core's own LAPIC timer. */
#define KVM_HPKVM_F_DIRECT_TIMER	0x2
/* IPIs of the guest become physical IPIs to the target's core. */
#define KVM_HPKVM_F_DIRECT_IPI		0x4
/* MSIs of emulated devices become physical IPIs to the target's core. */
#define KVM_HPKVM_F_DIRECT_MSI		0x8
/* HLT, PAUSE, MONITOR and MWAIT do not exit. */
#define KVM_HPKVM_F_DIRECT_HLT		0x10
/* MSIs of VFIO devices are delivered to the target's core by the IOMMU. */
#define KVM_HPKVM_F_DIRECT_VFIO		0x20

#define KVM_HPKVM_F_ALL			0x3fu

/*
 * KVM_GET_DEVICE_ATTR on /dev/kvm: what this host's timers are, one __u64 for
 * each attribute of this group.
 */
#define KVM_X86_GRP_HPKVM	KVM_CAP_X86_HPKVM
/*
 * args[0] of KVM_ENABLE_CAP(KVM_CAP_X86_APIC_BUS_CYCLES_NS) for a VM whose
 * one-shot and periodic timers are to be direct: nanoseconds, 1 or more.  0 if
 * there is none, because the rate is unknown or no whole number of nanoseconds.
 */
#define KVM_X86_HPKVM_BUS_CYCLES_NS	0
/* 1 if timers in TSC-deadline mode can be direct, 0 if they are intercepted. */
#define KVM_X86_HPKVM_DEADLINE		1

/* Why a request was refused, or why a vCPU is not in passthrough. */
enum kvm_hpkvm_reason {
	KVM_HPKVM_REASON_NONE = 0,
	/* bind: the request itself */
	KVM_HPKVM_REASON_NOT_ENABLED,	/* capability not enabled on this VM */
	KVM_HPKVM_REASON_BAD_FLAGS,	/* flags or a reserved field not zero */
	KVM_HPKVM_REASON_CPU_INVALID,	/* no such CPU */
	KVM_HPKVM_REASON_CPU_OFFLINE,
	KVM_HPKVM_REASON_CPU_LEASED,	/* another vCPU holds the core */
	KVM_HPKVM_REASON_CPU_NOT_ALLOWED, /* outside the task's cpuset */
	KVM_HPKVM_REASON_CPU_LAST,	/* last housekeeping CPU */
	KVM_HPKVM_REASON_CPU_TIMEKEEPER, /* not given any more */
	KVM_HPKVM_REASON_CPU_IRQ,	/* a host interrupt cannot leave it: culprit */
	KVM_HPKVM_REASON_CPU_STALE,	/* the core's LAPIC could not be cleared */
	KVM_HPKVM_REASON_ALREADY_BOUND,	/* this vCPU holds a core */
	KVM_HPKVM_REASON_NO_PERMISSION,	/* CAP_SYS_NICE is missing; culprit: for what */
	KVM_HPKVM_REASON_HOST_UNSUITABLE, /* no x2APIC, FRED, PTI, ... : culprit */
	KVM_HPKVM_REASON_NO_LAPIC,	/* the VM has no in-kernel LAPIC */
	/* state: bound, but emulated for now */
	KVM_HPKVM_REASON_NOT_BOUND,
	KVM_HPKVM_REASON_NOT_ENTERED,	/* bound, did not run since */
	KVM_HPKVM_REASON_WRONG_CPU,	/* the vCPU thread runs elsewhere */
	KVM_HPKVM_REASON_LAPIC_MODE,	/* guest LAPIC is not in x2APIC mode */
	KVM_HPKVM_REASON_LAPIC_DISABLED, /* software-disabled by SVR */
	KVM_HPKVM_REASON_IRQ_IN_SERVICE, /* the virtual ISR is not empty yet */
	KVM_HPKVM_REASON_EXTINT,	/* 8259 interrupt pending or enabled */
	KVM_HPKVM_REASON_NESTED,	/* the guest runs or enables nested guests */
	KVM_HPKVM_REASON_TIMER_VECTOR,	/* the timer is on its way to KVM */
	KVM_HPKVM_REASON_TIMER_RATE,	/* reserved: see timer_reason */
	KVM_HPKVM_REASON_FEATURE_OFF,	/* KVM_HPKVM_F_DIRECT_IRQ not enabled */
	KVM_HPKVM_REASON_DEBUG,		/* single-step, SMM, AutoEOI of SynIC, ... */
	KVM_HPKVM_REASON_USER_ACCESS,	/* user space read or wrote LAPIC state */
	/* bind: what came later */
	KVM_HPKVM_REASON_NO_VECTORS,	/* other CPUs lack them for host interrupts */
	KVM_HPKVM_REASON_MAX
};

/*
 * struct kvm_hpkvm_bind - lease a host CPU to this vCPU
 * @cpu: in: the host's logical CPU number
 * @flags: in: must be 0
 * @reason: out: enum kvm_hpkvm_reason, set on success and on failure
 * @irq: out: Linux interrupt number with REASON_CPU_IRQ, REASON_NO_VECTORS, and
 *	 REASON_NO_PERMISSION if @culprit is not empty, else 0
 * @culprit: out: NUL-terminated name of what is in the way, or empty
 * @reserved: in: must be 0
 *
 * Called by the vCPU's own thread.  The kernel moves the thread to @cpu and
 * restores its affinity at unbind.  The structure is written back whether or
 * not the call succeeds.
 */
struct kvm_hpkvm_bind {
	__u32 cpu;
	__u32 flags;
	__u32 reason;
	__u32 irq;
	char culprit[32];
	__u64 reserved[4];
};

/* Values of kvm_hpkvm_state.mode */
#define KVM_HPKVM_MODE_UNBOUND		0	/* an ordinary vCPU */
#define KVM_HPKVM_MODE_EMULATED		1	/* bound, stock KVM's LAPIC */
#define KVM_HPKVM_MODE_PASSTHROUGH	2	/* bound, the core's own LAPIC */

/* Values of kvm_hpkvm_state.timer: what arming and firing cost */
#define KVM_HPKVM_TIMER_EMULATED	0	/* an exit to arm, a kick to fire */
#define KVM_HPKVM_TIMER_INTERCEPTED	1	/* an exit to arm, none to fire */
#define KVM_HPKVM_TIMER_DIRECT		2	/* no exit */

/* Why a vCPU's timer is not direct. */
enum kvm_hpkvm_timer_reason {
	KVM_HPKVM_TIMER_REASON_NONE = 0,
	KVM_HPKVM_TIMER_REASON_NOT_PASSTHROUGH, /* the vCPU is not: see reason */
	KVM_HPKVM_TIMER_REASON_FEATURE_OFF, /* KVM_HPKVM_F_DIRECT_TIMER */
	KVM_HPKVM_TIMER_REASON_VECTOR,	/* LVTT names one that cannot be passed */
	KVM_HPKVM_TIMER_REASON_MODE,	/* LVTT names two modes at once */
	KVM_HPKVM_TIMER_REASON_RATE,	/* it counts faster or slower than the VM's */
	KVM_HPKVM_TIMER_REASON_AMID_PERIOD, /* until the next period begins */
	KVM_HPKVM_TIMER_REASON_FAR,	/* the deadline is beyond a count's range */
	/* intercepted */
	KVM_HPKVM_TIMER_REASON_NO_DEADLINE, /* the host has no TSC-deadline mode */
	KVM_HPKVM_TIMER_REASON_TSC,	/* the guest's TSC is not the host's */
	KVM_HPKVM_TIMER_REASON_FILTER,	/* KVM_X86_SET_MSR_FILTER */
	KVM_HPKVM_TIMER_REASON_MAX
};

/*
 * What the host does on a core whose vCPU it has made exit for that: what the
 * interrupt that it could not send would have done there.
 */
enum kvm_hpkvm_work {
	KVM_HPKVM_WORK_NONE = 0,
	KVM_HPKVM_WORK_RESCHEDULE,	/* it looks for a task to run */
	KVM_HPKVM_WORK_CALL,		/* a function call of another CPU's */
	KVM_HPKVM_WORK_IRQ_WORK,	/* what could not be done where it arose */
	KVM_HPKVM_WORK_TIMER,		/* a timer of the host's, or its tick */
	KVM_HPKVM_WORK_POSTED,		/* an interrupt for another vCPU */
	KVM_HPKVM_WORK_OTHER,
	KVM_HPKVM_WORK_MAX
};

/*
 * struct kvm_hpkvm_state - what a vCPU is doing now
 * @mode: KVM_HPKVM_MODE_*
 * @cpu: the bound host CPU, or ~0
 * @features: KVM_HPKVM_F_* enabled on the VM
 * @reason: enum kvm_hpkvm_reason: why @mode is not PASSTHROUGH, else NONE
 * @promotions: times the vCPU went from emulated to passthrough
 * @demotions: times it went back
 * @captured: guest interrupts that arrived while the core was in host mode
 *	with its priority gate lowered, each handed on at the next entry
 * @injected: self-IPIs sent before an entry, for captured and for emulated
 *	interrupts
 * @direct_sent: physical IPIs sent to this vCPU's core by other CPUs
 * @kicks: NMIs the host sent to the core since bind
 * @timer: KVM_HPKVM_TIMER_*
 * @timer_reason: enum kvm_hpkvm_timer_reason: why @timer is not DIRECT, else NONE
 * @tick_stopped_at: when the core's tick came for the last time, or was due, in ns
 *	of CLOCK_MONOTONIC; 0 while it ticks
 * @work_at: when the host did some work on the core that made it exit, or would
 *	have done so, in ns of CLOCK_MONOTONIC; 0 if it never has since bind
 * @work: enum kvm_hpkvm_work: what that was
 * @work_count: how often it has, in the last 60 to 65 s
 * @reserved: 0
 *
 * Counters start at 0 when the vCPU is created, @kicks at bind.
 *
 * Does not disturb a running vCPU: it may be called from any thread, at any
 * time, and never waits for the vCPU to leave the guest.
 */
struct kvm_hpkvm_state {
	__u32 mode;
	__u32 cpu;
	__u32 features;
	__u32 reason;
	__u64 promotions;
	__u64 demotions;
	__u64 captured;
	__u64 injected;
	__u64 direct_sent;
	__u64 kicks;
	__u32 timer;
	__u32 timer_reason;
	__u64 tick_stopped_at;
	__u64 work_at;
	__u32 work;
	__u32 work_count;
	__u64 reserved[2];
};

/* Values of kvm_hpkvm_irq.mode */
#define KVM_HPKVM_IRQ_MODE_REMAPPED	0	/* to the host, which tells KVM */
#define KVM_HPKVM_IRQ_MODE_POSTED	1	/* by a posted-interrupt descriptor */
#define KVM_HPKVM_IRQ_MODE_DIRECT	2	/* straight to the guest's core */

/* Why an interrupt is not direct. */
enum kvm_hpkvm_irq_reason {
	KVM_HPKVM_IRQ_REASON_NONE = 0,
	KVM_HPKVM_IRQ_REASON_NOT_BOUND,	/* no vCPU was bound when it came */
	KVM_HPKVM_IRQ_REASON_FEATURE_OFF, /* KVM_HPKVM_F_DIRECT_VFIO */
	KVM_HPKVM_IRQ_REASON_POLICY,	/* KVM_HPKVM_IRQ_KEEP_HOST */
	KVM_HPKVM_IRQ_REASON_NOT_MSI,	/* the guest has routed it otherwise */
	KVM_HPKVM_IRQ_REASON_DELIVERY_MODE, /* NMI, SMI, level-triggered, ... */
	KVM_HPKVM_IRQ_REASON_TARGETS,	/* none, or more than one */
	KVM_HPKVM_IRQ_REASON_VECTOR,	/* below 16, above 239, or an IOAPIC's */
	KVM_HPKVM_IRQ_REASON_NOT_PASSTHROUGH, /* the target vCPU is not */
	KVM_HPKVM_IRQ_REASON_IOMMU,	/* the IOMMU did not take the entry */
	KVM_HPKVM_IRQ_REASON_MAX
};

/*
 * struct kvm_hpkvm_irq - where the interrupt of a VFIO device goes
 * @gsi: in: the GSI of its irqfd
 * @flags: in: must be 0
 * @mode: out: KVM_HPKVM_IRQ_MODE_*
 * @reason: out: enum kvm_hpkvm_irq_reason: why @mode is not DIRECT, else NONE
 * @host_irq: out: the Linux interrupt
 * @vector: out: the guest's vector, with mode DIRECT, else 0
 * @vcpu: out: ID of the target vCPU, with mode DIRECT, else ~0
 * @cpu: out: its core, with mode DIRECT, else ~0
 * @directed: out: times it was directed to a core
 * @ended: out: times it went back to the host
 * @forwarded: out: times it was pending in the core when its vCPU was demoted,
 *	and was handed on
 * @reserved: in: must be 0
 *
 * Nobody counts interrupts that go straight to the guest.
 */
struct kvm_hpkvm_irq {
	__u32 gsi;
	__u32 flags;
	__u32 mode;
	__u32 reason;
	__u32 host_irq;
	__u32 vector;
	__u32 vcpu;
	__u32 cpu;
	__u64 directed;
	__u64 ended;
	__u64 forwarded;
	__u64 reserved[5];
};

/* Never direct, whatever else holds. */
#define KVM_HPKVM_IRQ_KEEP_HOST	0x1

/*
 * struct kvm_hpkvm_irq_policy - what may become of a VFIO device's interrupt
 * @gsi: in: the GSI of its irqfd, which forgets this when it is deassigned
 * @flags: in: KVM_HPKVM_IRQ_KEEP_HOST or 0
 * @reserved: in: must be 0
 */
struct kvm_hpkvm_irq_policy {
	__u32 gsi;
	__u32 flags;
	__u64 reserved[3];
};

/* VM ioctls */
#define KVM_HPKVM_GET_IRQ	_IOWR(0xAE, 0xf3, struct kvm_hpkvm_irq)
#define KVM_HPKVM_SET_IRQ_POLICY _IOW(0xAE, 0xf4, struct kvm_hpkvm_irq_policy)

/* vCPU ioctls.  KVMIO is 0xAE; upstream stays below 0xf0. */
#define KVM_HPKVM_BIND		_IOWR(0xAE, 0xf0, struct kvm_hpkvm_bind)
#define KVM_HPKVM_UNBIND	_IO(0xAE, 0xf1)
#define KVM_HPKVM_GET_STATE	_IOR(0xAE, 0xf2, struct kvm_hpkvm_state)

#endif /* _UAPI_ASM_X86_KVM_HPKVM_H */
