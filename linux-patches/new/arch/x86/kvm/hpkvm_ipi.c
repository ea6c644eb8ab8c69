// SPDX-License-Identifier: GPL-2.0-only
/*
 * KVM dedicated cores: IPIs that are sent without C.
 *
 * This file owns each VM's map from APIC IDs to the cores that its vCPUs hold,
 * and the account of what was sent.  Who sends is hpkvm_ipi_send.S, right after
 * the VM exit; RCU does not watch there, so a target says goodbye to each sender
 * by itself.  A target must never stay in the map when its core is somebody
 * else's.
 *
 * In x2APIC mode, the only one of passthrough, a vCPU's APIC ID is its vCPU ID
 * and cannot change.
 */
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>

#include <asm/apic.h>
#include <asm/dedicated_cpu.h>
#include <asm/kvm_hpkvm.h>

#include "hpkvm.h"
#include "hpkvm_fault.h"
#include "lapic.h"
#include "pmu.h"
#include "trace.h"

static bool __read_mostly hpkvm_fast_ipi = true;
module_param(hpkvm_fast_ipi, bool, 0644);
MODULE_PARM_DESC(hpkvm_fast_ipi,
		 "Send IPIs between dedicated cores in assembly, at the next entry");

/**
 * kvm_hpkvm_ipi_init - give a VM its map
 * @kvm: a VM without vCPUs
 * @fast: is it to have one?
 *
 * Return: 0 or -ENOMEM.
 */
int kvm_hpkvm_ipi_init(struct kvm *kvm, bool fast)
{
	kvm_hpkvm_ipi_destroy(kvm);
	if (!fast)
		return 0;
	kvm->arch.hpkvm_ipi_map = kvcalloc(KVM_MAX_VCPU_IDS,
					   sizeof(*kvm->arch.hpkvm_ipi_map),
					   GFP_KERNEL_ACCOUNT);
	return kvm->arch.hpkvm_ipi_map ? 0 : -ENOMEM;
}

/* kvm_hpkvm_ipi_destroy - take it back; the VM has no vCPUs */
void kvm_hpkvm_ipi_destroy(struct kvm *kvm)
{
	kvfree(kvm->arch.hpkvm_ipi_map);
	kvm->arch.hpkvm_ipi_map = NULL;
}

/**
 * kvm_hpkvm_ipi_add - others may send to this vCPU's core
 * @vcpu: a vCPU in passthrough
 */
void kvm_hpkvm_ipi_add(struct kvm_vcpu *vcpu)
{
	struct kvm_vcpu_hpkvm *h = &vcpu->arch.hpkvm;
	struct hpkvm_ipi_target **map = vcpu->kvm->arch.hpkvm_ipi_map;

	if (!map)
		return;
	h->ipi.self = vcpu->vcpu_id;
	h->ipi_target.apicid = per_cpu(x86_cpu_to_apicid, h->cpu);
	h->ipi_target.captured = per_cpu(dedicated_cpu, h->cpu).captured;
	h->ipi_target.handled = vcpu->arch.ioapic_handled_vectors;
	/* Who finds the target finds it complete. */
	smp_store_release(&map[vcpu->vcpu_id], &h->ipi_target);
}

/**
 * kvm_hpkvm_ipi_del - nobody sends to this vCPU's core any more
 * @vcpu: a vCPU that leaves passthrough, not running
 *
 * Waits for who is sending at this moment: some dozen instructions that nothing
 * but an NMI can interrupt.
 */
void kvm_hpkvm_ipi_del(struct kvm_vcpu *vcpu)
{
	struct hpkvm_ipi_target **map = vcpu->kvm->arch.hpkvm_ipi_map;
	struct kvm_vcpu *sender;
	unsigned long i;

	if (!map)
		return;
	WRITE_ONCE(map[vcpu->vcpu_id], NULL);
	/* Pairs with the XCHG of @busy: either it sees NULL or we see it. */
	smp_mb();
	kvm_for_each_vcpu(i, sender, vcpu->kvm)
		smp_cond_load_acquire(&sender->arch.hpkvm.ipi.busy, !VAL);
}

/* Who traces exits or IPIs wants to see all of them. */
static bool hpkvm_ipi_is_traced(void)
{
	return trace_kvm_exit_enabled() || trace_kvm_entry_enabled() ||
	       trace_kvm_msr_enabled() || trace_kvm_apic_enabled() ||
	       trace_kvm_apic_ipi_enabled() ||
	       trace_kvm_apic_accept_irq_enabled();
}

/*
 * While any local APIC is in xAPIC mode, whose ID the guest chooses, several may
 * have the ID of one that is in the map.
 */
static bool hpkvm_ipi_ids_are_fixed(struct kvm *kvm)
{
	struct kvm_apic_map *map;
	bool fixed;

	rcu_read_lock();
	map = rcu_dereference(kvm->arch.apic_map);
	fixed = map && map->logical_mode == KVM_APIC_MODE_X2APIC;
	rcu_read_unlock();
	return fixed;
}

/* WRMSR is an instruction, too, and KVM would have to count it. */
static bool hpkvm_ipi_is_counted(struct kvm_vcpu *vcpu)
{
	struct kvm_pmu *pmu = vcpu_to_pmu(vcpu);
	struct kvm_pmc *pmc;
	int n;

	if (likely(!pmu->event_count))
		return false;
	kvm_for_each_pmc(pmu, pmc, n, pmu->all_valid_pmc_idx) {
		if (pmc_speculative_in_use(pmc))
			return true;
	}
	return false;
}

/**
 * kvm_hpkvm_ipi_enter - may this vCPU's IPIs be sent in assembly?
 * @vcpu: a vCPU in passthrough, about to enter the guest
 *
 * Not while its timer is VMX's preemption timer, which starts anew at each entry,
 * nor while it counts events.
 */
void kvm_hpkvm_ipi_enter(struct kvm_vcpu *vcpu)
{
	bool fast = READ_ONCE(hpkvm_fast_ipi) && !hpkvm_ipi_is_traced() &&
		    !hpkvm_fault_armed(HPKVM_FAULT_SEND) &&
		    !kvm_lapic_hv_timer_in_use(vcpu) &&
		    !hpkvm_ipi_is_counted(vcpu) &&
		    hpkvm_ipi_ids_are_fixed(vcpu->kvm);

	vcpu->arch.hpkvm.ipi.map = fast ? vcpu->kvm->arch.hpkvm_ipi_map : NULL;
}

static void hpkvm_ipi_set_icr(struct kvm_lapic *apic, u64 icr)
{
	u32 *regs = apic->regs + APIC_ICR;

	icr &= ~APIC_ICR_BUSY;
	regs[0] = icr;
	if (kvm_x86_ops.x2apic_icr_is_split)
		*(u32 *)(apic->regs + APIC_ICR2) = icr >> 32;
	else
		regs[1] = icr >> 32;
}

/**
 * kvm_hpkvm_ipi_exit - take over what was sent without C
 * @vcpu: a vCPU in passthrough that has left the guest
 */
void kvm_hpkvm_ipi_exit(struct kvm_vcpu *vcpu)
{
	struct hpkvm_ipi_sender *ipi = &vcpu->arch.hpkvm.ipi;
	u64 sent = ipi->sent - ipi->seen;

	if (likely(!sent))
		return;
	ipi->seen = ipi->sent;
	vcpu->stat.hpkvm_fast_ipis += sent;
	vcpu->stat.exits += sent;
	hpkvm_ipi_set_icr(vcpu->arch.apic, ipi->icr);
}
