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

FIXTURE(synic) {
	struct kvm_vm *vm;
	struct hpkvm_runner runner;
	bool dedicated;
	struct shared *s;
	int rounds;
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

static void *run(void *arg)
{
	vcpu_run(arg);
	TEST_FAIL("The guest ended");
	return NULL;
}

FIXTURE_SETUP(synic)
{
	pthread_t thread;
	vm_vaddr_t page;

	self->dedicated = variant->dedicated;
	self->rounds = hpkvm_count(NR_ROUNDS);
	if (!kvm_has_cap(KVM_CAP_HYPERV_SYNIC2))
		SKIP(return, "this kernel has no KVM_CAP_HYPERV_SYNIC2");
	if (self->dedicated && !hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	if (self->dedicated && !hpkvm_find_cores(&self->runner.core, 1))
		SKIP(return, "no CPU of this host can be leased");

	self->vm = self->dedicated ?
		   hpkvm_vm_create(1, kvm_check_cap(KVM_CAP_X86_HPKVM)) :
		   vm_create(1);
	self->runner.vcpu = vm_vcpu_add(self->vm, 0, guest_code);
	vcpu_set_hv_cpuid(self->runner.vcpu);
	vcpu_enable_cap(self->runner.vcpu, KVM_CAP_HYPERV_SYNIC2, 0);
	vm_install_exception_handler(self->vm, VECTOR, guest_handler);

	page = vm_vaddr_alloc_page(self->vm);
	shared.messages = page + SINT * 256;
	shared.messages_gpa = addr_gva2gpa(self->vm, page);
	shared.sint = SINT_MASKED;
	sync_global_to_guest(self->vm, shared);
	self->s = addr_gva2hva(self->vm, (vm_vaddr_t)&shared);
	TEST_ASSERT(!pthread_create(&thread, NULL,
				    self->dedicated ? hpkvm_bind_and_run : run,
				    self->dedicated ? (void *)&self->runner :
						      (void *)self->runner.vcpu),
		    "pthread_create");
}

/* The threads end with the process of this test. */
FIXTURE_TEARDOWN(synic)
{
}

/* Until the vCPU is in @mode, for @reason. */
static bool becomes(struct kvm_vcpu *vcpu, uint32_t mode, uint32_t reason)
{
	struct kvm_hpkvm_state state;
	struct timespec begin;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		state = hpkvm_state(vcpu);
		if (state.mode == mode && state.reason == reason)
			return true;
		usleep(1000);
	} while (!hpkvm_is_late(&begin));
	ksft_print_msg("mode %u, reason %u\n", state.mode, state.reason);
	return false;
}

static bool becomes_passthrough(struct kvm_vcpu *vcpu)
{
	return becomes(vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
		       KVM_HPKVM_REASON_NONE);
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
	int i;

	self->s->sint = VECTOR;
	if (self->dedicated) {
		ASSERT_TRUE(becomes_passthrough(self->runner.vcpu));
		before = hpkvm_state(self->runner.vcpu);
	}
	for (i = 0; i < self->rounds; i++)
		do_round(self->s);
	if (self->dedicated)
		after = hpkvm_state(self->runner.vcpu);

	EXPECT_EQ(before.demotions, after.demotions);
	EXPECT_EQ(0, self->s->early);
	EXPECT_EQ(0, self->s->foreign);
	for (i = 0; i < NR_TIMERS; i++)
		EXPECT_EQ(self->rounds, self->s->came[i]);
}

TEST_F(synic, auto_eoi_is_emulated)
{
	struct kvm_vcpu *vcpu = self->runner.vcpu;
	int i;

	for (i = 0; i < 3; i++) {
		self->s->sint = VECTOR | AUTO_EOI;
		if (self->dedicated) {
			ASSERT_TRUE(becomes(vcpu, KVM_HPKVM_MODE_EMULATED,
					    KVM_HPKVM_REASON_DEBUG));
		}
		do_round(self->s);
		self->s->sint = VECTOR;
		if (self->dedicated)
			ASSERT_TRUE(becomes_passthrough(vcpu));
		do_round(self->s);
	}
	EXPECT_EQ(0, self->s->early);
	EXPECT_EQ(0, self->s->foreign);
}

TEST_HARNESS_MAIN
