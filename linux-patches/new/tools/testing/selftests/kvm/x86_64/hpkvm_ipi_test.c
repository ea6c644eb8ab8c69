// SPDX-License-Identifier: GPL-2.0-only
/*
 * IPIs from one dedicated core to another that are sent without C, and the map
 * from APIC IDs to cores behind them: low IDs, the highest, and such that are
 * nobody's.
 */
#include <pthread.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define VECTOR		0x51
#define NR_IPIS		500
/* Some find the target, or the sender, not in passthrough yet. */
#define NR_FAST		(2 * NR_IPIS - NR_IPIS / 10)

static uint64_t hits;
static bool listening;

FIXTURE(ipi) {
	struct kvm_vm *vm;
	struct kvm_vcpu *sender;
	struct hpkvm_runner target;
	uint32_t core;
};

FIXTURE_VARIANT(ipi) {
	uint32_t sender, target;
};

FIXTURE_VARIANT_ADD(ipi, same_cluster) {
	.sender = 0, .target = 3,
};

FIXTURE_VARIANT_ADD(ipi, of_64) {
	.sender = 0, .target = 63,
};

FIXTURE_VARIANT_ADD(ipi, of_288) {
	.sender = 287, .target = 255,
};

FIXTURE_VARIANT_ADD(ipi, highest) {
	.sender = 1023, .target = UINT32_MAX,	/* KVM_CAP_MAX_VCPU_ID - 1 */
};

/* ---- The guest ---- */

static void count(struct ex_regs *regs)
{
	WRITE_ONCE(hits, hits + 1);
	x2apic_write_reg(APIC_EOI, 0);
}

static void listen(void)
{
	x2apic_enable();
	asm volatile("sti");
	WRITE_ONCE(listening, true);
	for (;;)
		cpu_relax();
}

static void send(uint32_t destination, uint32_t mode)
{
	uint64_t before = READ_ONCE(hits);

	x2apic_write_reg(APIC_ICR, (uint64_t)destination << 32 | mode |
				   APIC_INT_ASSERT | VECTOR);
	while (READ_ONCE(hits) == before)
		cpu_relax();
}

/* The target would count it before the next one. */
static void send_to_nobody(uint32_t destination, uint32_t mode)
{
	x2apic_write_reg(APIC_ICR, (uint64_t)destination << 32 | mode |
				   APIC_INT_ASSERT | VECTOR);
}

static void send_all(uint32_t target, uint32_t nobody)
{
	uint32_t cluster = target >> 4 << 16 | 1 << (target & 15);

	x2apic_enable();
	while (!READ_ONCE(listening))
		cpu_relax();
	for (int i = 0; i < NR_IPIS; i++) {
		send(target, 0);
		send(cluster, APIC_DEST_LOGICAL);
	}
	send_to_nobody(target ^ 1, 0);
	send_to_nobody(nobody, 0);
	send_to_nobody(nobody + 1, 0);
	send_to_nobody(0x80000000, 0);
	send_to_nobody(UINT32_MAX - 1, 0);
	send_to_nobody(cluster ^ 3 << (target & 14), APIC_DEST_LOGICAL);
	send_to_nobody(cluster & 0xffff0000, APIC_DEST_LOGICAL);
	send_to_nobody(0xffff0001, APIC_DEST_LOGICAL);
	send(target, 0);
	GUEST_DONE();
}

/* ---- The host ---- */

FIXTURE_SETUP(ipi)
{
	uint32_t cores[2], limit, target = variant->target;

	if (!hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	if (hpkvm_find_cores(cores, 2) < 2)
		SKIP(return, "no two CPUs of this host can be leased");

	limit = kvm_check_cap(KVM_CAP_MAX_VCPU_ID);
	if (target == UINT32_MAX)
		target = limit - 1;
	self->vm = hpkvm_vm_create(2, KVM_HPKVM_F_ALL);
	self->sender = vm_vcpu_add(self->vm, variant->sender, send_all);
	self->target.vcpu = vm_vcpu_add(self->vm, target, listen);
	self->core = cores[0];
	self->target.core = cores[1];
	vcpu_args_set(self->sender, 2, target, limit);
	vm_install_exception_handler(self->vm, VECTOR, count);
}

/* The target never ends: the process does, and with it all else. */
FIXTURE_TEARDOWN(ipi)
{
}

TEST_F(ipi, arrives)
{
	pthread_t thread;
	struct ucall uc;

	ASSERT_EQ(0, pthread_create(&thread, NULL, hpkvm_bind_and_run,
				    &self->target));
	ASSERT_EQ(0, hpkvm_bind(self->sender, self->core, NULL));
	vcpu_run(self->sender);
	ASSERT_EQ(UCALL_DONE, get_ucall(self->sender, &uc));

	sync_global_from_guest(self->vm, hits);
	EXPECT_EQ(2 * NR_IPIS + 1, hits);
	EXPECT_LE(NR_FAST, hpkvm_vcpu_stat(self->sender, "hpkvm_fast_ipis"));
}

TEST_HARNESS_MAIN
