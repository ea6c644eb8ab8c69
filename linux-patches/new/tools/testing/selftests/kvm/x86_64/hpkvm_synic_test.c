// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hyper-V's synthetic interrupt controller (SynIC) on a dedicated core: its
 * messages come, each once and none early, and the next one comes when the guest
 * has written EOI for the one before (TLFS 11.8).  A vCPU whose SynIC signals
 * the EOI by itself (AutoEOI) is emulated as long as it does.
 *
 * Under stock KVM's LAPIC ("emulated"), too, which shows that the guest is right.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"
#include "hyperv.h"

#define SINT			2
#define VECTOR			0x75
#define AUTO_EOI		BIT(17)
#define SINT_MASKED		BIT(16)
#define SIM_ENABLED		BIT(0)
#define TIMER_ENABLED		BIT(0)
#define TIMER_SINT		((uint64_t)SINT << 16)
#define DELAY			1000	/* units of 100 ns */

#define NR_ROUNDS		400	/* see hpkvm_count() */

/*
 * FIRST and SECOND expire at once, so that SECOND's message has to wait for the
 * slot.  FIRST's handler has LATE's come when the slot is free, and its own
 * interrupt is still in service.
 */
enum { FIRST, SECOND, LATE, NR_TIMERS };

struct message {
	uint32_t type;
	uint8_t payload_size;
	uint8_t flags;
	uint16_t reserved;
	uint64_t sender;
	uint32_t timer;
	uint32_t unused;
	uint64_t expiration;
	uint64_t delivery;
};

/* The host's side and the guest's. */
static struct shared {
	uint64_t messages;	/* the slot of SINT */
	uint64_t messages_gpa;
	uint64_t sint;		/* what the guest shall write */
	uint64_t round;		/* counted by the host: each timer once */
	uint64_t done;
	uint64_t came[NR_TIMERS];
	uint64_t expiration[NR_TIMERS];
	uint64_t early, foreign;
} shared;

struct test {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	uint32_t core;
	bool dedicated;
	struct shared *s;
	int rounds;
};

FIXTURE(synic) {
	struct test t;
};

FIXTURE_VARIANT(synic) {
	bool dedicated;
};

FIXTURE_VARIANT_ADD(synic, emulated) {
	.dedicated = false,
};

FIXTURE_VARIANT_ADD(synic, dedicated) {
	.dedicated = true,
};

/* ---- The guest ---- */

static void guest_start(int timer, uint64_t when)
{
	shared.expiration[timer] = when;
	wrmsr(HV_X64_MSR_STIMER0_COUNT + 2 * timer, when);
	wrmsr(HV_X64_MSR_STIMER0_CONFIG + 2 * timer,
	      TIMER_SINT | TIMER_ENABLED);
}

/*
 * Not EOM, which asks for the next message, too: the EOI has to do it.  With
 * AutoEOI it is up to EOM.
 */
static void guest_handler(struct ex_regs *regs)
{
	struct message *m = (struct message *)shared.messages;
	uint32_t i = m->timer;
	bool eoi = !(shared.sint & AUTO_EOI);

	if (i >= NR_TIMERS || m->expiration != shared.expiration[i]) {
		shared.foreign++;
	} else {
		if (rdmsr(HV_X64_MSR_TIME_REF_COUNT) < m->expiration)
			shared.early++;
		WRITE_ONCE(shared.came[i], shared.came[i] + 1);
	}
	WRITE_ONCE(m->type, 0);
	if (i == FIRST) {
		guest_start(LATE, rdmsr(HV_X64_MSR_TIME_REF_COUNT));
		while (!READ_ONCE(m->type))
			cpu_relax();
	}
	if (eoi)
		x2apic_write_reg(APIC_EOI, 0);
	else
		wrmsr(HV_X64_MSR_EOM, 0);
}

static void guest_start_timers(void)
{
	uint64_t when = rdmsr(HV_X64_MSR_TIME_REF_COUNT) + DELAY;

	/* Not in between, or FIRST's could be read before SECOND is started. */
	asm volatile("cli");
	guest_start(FIRST, when);
	guest_start(SECOND, when);
	asm volatile("sti");
}

static void guest_code(void)
{
	uint64_t sint = SINT_MASKED;

	x2apic_enable();
	wrmsr(HV_X64_MSR_GUEST_OS_ID, 0x8100ull << 48);
	wrmsr(HV_X64_MSR_SIMP, shared.messages_gpa | SIM_ENABLED);
	asm volatile("sti");
	for (;;) {
		/* Whoever asked for the round had set the SINT before. */
		uint64_t round = READ_ONCE(shared.round);

		if (READ_ONCE(shared.sint) != sint) {
			sint = shared.sint;
			wrmsr(HV_X64_MSR_SINT0 + SINT, sint);
		}
		if (round != shared.done) {
			guest_start_timers();
			WRITE_ONCE(shared.done, shared.done + 1);
		}
	}
}

/* ---- The host ---- */

/* KVM tells user space of each write that moves SynIC's pages. */
static void *run(void *arg)
{
	struct test *t = arg;

	TEST_ASSERT(!t->dedicated || !hpkvm_bind(t->vcpu, t->core, NULL),
		    "Can't bind");
	do {
		vcpu_run(t->vcpu);
	} while (t->vcpu->run->exit_reason == KVM_EXIT_HYPERV);
	TEST_FAIL("The guest ended");
	return NULL;
}

FIXTURE_SETUP(synic)
{
	struct test *t = &self->t;
	pthread_t thread;
	vm_vaddr_t page;

	t->dedicated = variant->dedicated;
	t->rounds = hpkvm_count(NR_ROUNDS);
	if (!kvm_has_cap(KVM_CAP_HYPERV_SYNIC2))
		SKIP(return, "this kernel has no KVM_CAP_HYPERV_SYNIC2");
	if (t->dedicated && !hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	if (t->dedicated && !hpkvm_find_cores(&t->core, 1))
		SKIP(return, "no CPU of this host can be leased");

	/* Both without APICv, which the capability inhibits. */
	t->vm = hpkvm_supported() ?
		hpkvm_vm_create(1, kvm_check_cap(KVM_CAP_X86_HPKVM)) :
		vm_create(1);
	t->vcpu = vm_vcpu_add(t->vm, 0, guest_code);
	vcpu_set_hv_cpuid(t->vcpu);
	vcpu_enable_cap(t->vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	vm_install_exception_handler(t->vm, VECTOR, guest_handler);

	page = vm_vaddr_alloc_page(t->vm);
	shared.messages = page + SINT * 256;
	shared.messages_gpa = addr_gva2gpa(t->vm, page);
	shared.sint = SINT_MASKED;
	sync_global_to_guest(t->vm, shared);
	t->s = addr_gva2hva(t->vm, (vm_vaddr_t)&shared);
	ASSERT_EQ(0, pthread_create(&thread, NULL, run, t));
}

/* The threads end with the process of this test. */
FIXTURE_TEARDOWN(synic)
{
}

static bool is_in(struct kvm_vcpu *vcpu, uint32_t mode, uint32_t reason)
{
	struct kvm_hpkvm_state state = hpkvm_state(vcpu);

	return state.mode == mode && state.reason == reason;
}

static bool becomes_passthrough(struct kvm_vcpu *vcpu)
{
	return HPKVM_WAIT(is_in(vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
				KVM_HPKVM_REASON_NONE));
}

static bool becomes_emulated(struct kvm_vcpu *vcpu)
{
	return HPKVM_WAIT(is_in(vcpu, KVM_HPKVM_MODE_EMULATED,
				KVM_HPKVM_REASON_DEBUG));
}

/* Each timer once: their messages come one after the other. */
static void do_round(struct shared *s)
{
	uint64_t n = s->round + 1;
	int i;

	WRITE_ONCE(s->round, n);
	for (i = 0; i < NR_TIMERS; i++)
		HPKVM_WAIT_FOR(s->came[i], n);
}

TEST_F(synic, each_message_comes_once)
{
	struct kvm_hpkvm_state before = {}, after = {};
	struct test *t = &self->t;
	int i;

	t->s->sint = VECTOR;
	if (t->dedicated) {
		ASSERT_TRUE(becomes_passthrough(t->vcpu));
		before = hpkvm_state(t->vcpu);
	}
	for (i = 0; i < t->rounds; i++)
		do_round(t->s);
	if (t->dedicated)
		after = hpkvm_state(t->vcpu);

	EXPECT_EQ(before.demotions, after.demotions);
	EXPECT_EQ(0, t->s->early);
	EXPECT_EQ(0, t->s->foreign);
	for (i = 0; i < NR_TIMERS; i++)
		EXPECT_EQ(t->rounds, t->s->came[i]);
}

TEST_F(synic, auto_eoi_is_emulated)
{
	struct test *t = &self->t;
	struct kvm_vcpu *vcpu = t->vcpu;
	int i;

	for (i = 0; i < 3; i++) {
		t->s->sint = VECTOR | AUTO_EOI;
		if (t->dedicated)
			ASSERT_TRUE(becomes_emulated(vcpu));
		do_round(t->s);
		t->s->sint = VECTOR;
		if (t->dedicated)
			ASSERT_TRUE(becomes_passthrough(vcpu));
		do_round(t->s);
	}
	EXPECT_EQ(0, t->s->early);
	EXPECT_EQ(0, t->s->foreign);
}

TEST_HARNESS_MAIN
