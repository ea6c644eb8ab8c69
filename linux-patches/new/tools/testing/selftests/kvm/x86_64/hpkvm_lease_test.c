// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a lease of KVM's dedicated cores: what bind and unbind do to the
 * thread, what KVM_HPKVM_GET_STATE says in each state, every way a lease can
 * end, and that the core serves the host afterwards as if nothing had been.
 *
 * Needs root, and a host with at least one CPU that can be leased.
 * HPKVM_CYCLES in the environment says how often a core is leased again where
 * that counts.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define SELF_VECTOR	0x51
#define NR_CYCLES	1000
#define NR_READS	1000
#define NR_MOVED_BINDS	200
#define STALE_VECTOR	20
#define APIC_LVTTHMR	0x330
#define LVT_VECTOR	0xfa	/* Linux's own for thermal events */
#define NR_WAKEUPS	50000
#define NR_GROUP_CYCLES	1000
#define MAX_PAUSE	8000
#define PAUSE_STEP	1009	/* few wake-ups shall meet long pauses, too */
#define NR_EXIT_ROUNDS	20
#define EXITS_PER_ROUND	30
#define SHORT_EXIT_US	1000
#define LONG_EXIT_MS	500
#define NR_LONG_EXITS	8

/* Documentation/arch/x86/x86_64/mm.rst; arch/x86/kernel/umip.c. */
#define CPU_ENTRY_AREA	0xfffffe0000000000ul
#define CPU_ENTRY_SHIFT	39
#define UMIP_DUMMY_IDT	0xffffffffffff0000ul

/* Far longer than anything awaited here takes. */
#define WAIT_SECONDS	20

/* Guest: where it is, for the host to see; the host: when to go on. */
enum guest_step {
	STEP_START,
	STEP_XAPIC,
	STEP_DISABLED,
	STEP_ENABLED,
	STEP_DONE,
};

static uint64_t guest_step;
static uint64_t guest_goal;
static uint64_t guest_irqs;

FIXTURE(lease) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	uint32_t core;
};

FIXTURE_SETUP(lease)
{
	const char *why = hpkvm_set_up(&self->vm, &self->vcpu, &self->core);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(lease)
{
	/* Tests of the lease's end have freed it themselves. */
	if (self->vm)
		kvm_vm_free(self->vm);
}

/* Enough for LAPIC passthrough: x2APIC, software-enabled, no ExtINT. */
static void guest_enter_x2apic(void)
{
	x2apic_enable();
	x2apic_write_reg(APIC_LVT0, APIC_LVT_MASKED);
}

static void guest_irq_handler(struct ex_regs *regs)
{
	guest_irqs++;
	x2apic_write_reg(APIC_EOI, 0);
}

static void guest_self_ipi(void)
{
	uint64_t end = rdtsc() + WAIT_SECONDS * 1000ull * guest_tsc_khz;
	uint64_t want = guest_irqs + 1;

	x2apic_write_reg(APIC_SELF_IPI, SELF_VECTOR);
	asm volatile("sti");
	while (READ_ONCE(guest_irqs) < want && rdtsc() < end)
		cpu_relax();
	asm volatile("cli");
	GUEST_ASSERT_EQ(READ_ONCE(guest_irqs), want);
}

/* One self-IPI for each KVM_RUN. */
static void guest_self_ipi_loop(void)
{
	guest_enter_x2apic();
	for (;;) {
		guest_self_ipi();
		GUEST_SYNC(0);
	}
}

static void guest_spin(void)
{
	guest_enter_x2apic();
	WRITE_ONCE(guest_step, STEP_ENABLED);
	for (;;)
		cpu_relax();
}

static void guest_reach(enum guest_step step)
{
	WRITE_ONCE(guest_step, step);
	while (READ_ONCE(guest_goal) <= step)
		cpu_relax();
}

static void guest_walk_modes(void)
{
	guest_reach(STEP_XAPIC);

	wrmsr(MSR_IA32_APICBASE, rdmsr(MSR_IA32_APICBASE) |
	      MSR_IA32_APICBASE_ENABLE | MSR_IA32_APICBASE_EXTD);
	x2apic_write_reg(APIC_LVT0, APIC_LVT_MASKED);
	guest_reach(STEP_DISABLED);

	guest_enter_x2apic();
	guest_reach(STEP_ENABLED);

	GUEST_SYNC(0);
	guest_reach(STEP_DONE);
	GUEST_DONE();
}

static uint64_t *guest_var(struct kvm_vm *vm, uint64_t *var)
{
	return addr_gva2hva(vm, (vm_vaddr_t)var);
}

static bool wait_until(uint64_t *var, uint64_t value)
{
	return HPKVM_WAIT(READ_ONCE(*var) >= value);
}

/* Run until the guest calls out; the guest must not have failed. */
static uint64_t run_to_ucall(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_IO);
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	return uc.cmd;
}

/* One self-IPI for each KVM_RUN. */
static void load_self_ipi_loop(struct kvm_vcpu *vcpu)
{
	vcpu_arch_set_entry_point(vcpu, guest_self_ipi_loop);
	vm_install_exception_handler(vcpu->vm, SELF_VECTOR, guest_irq_handler);
}

/* The same on a core, with the first of them done. */
static void bind_self_ipi_loop(struct kvm_vcpu *vcpu, uint32_t core)
{
	load_self_ipi_loop(vcpu);
	TEST_ASSERT(!hpkvm_bind(vcpu, core, NULL), "Can't bind");
	TEST_ASSERT_EQ(run_to_ucall(vcpu), UCALL_SYNC);
}

static bool has_state(struct kvm_vcpu *vcpu, uint32_t mode, uint32_t reason)
{
	struct kvm_hpkvm_state state = hpkvm_state(vcpu);

	return state.mode == mode && state.reason == reason;
}

/* Wait for a state: a change shows at the vCPU's next exit or entry. */
static bool state_is(struct kvm_vcpu *vcpu, uint32_t mode, uint32_t reason)
{
	struct kvm_hpkvm_state state;

	if (HPKVM_WAIT(has_state(vcpu, mode, reason)))
		return true;
	state = hpkvm_state(vcpu);
	fprintf(stderr, "# mode %u (want %u), reason %u (want %u)\n",
		state.mode, mode, state.reason, reason);
	return false;
}

/* By a VM of its own. */
static bool can_be_leased(uint32_t core)
{
	struct kvm_vm *vm = hpkvm_vm_create(1, KVM_HPKVM_F_DIRECT_IRQ);
	struct kvm_vcpu *vcpu = vm_vcpu_add(vm, 0, NULL);
	long ms = hpkvm_wait_leasable(vcpu, core, WAIT_SECONDS * 1000);

	kvm_vm_free(vm);
	return ms >= 0;
}

TEST_F(lease, affinity_is_restored)
{
	cpu_set_t before, during, after;

	CPU_ZERO(&before);
	CPU_SET(0, &before);
	CPU_SET(self->core, &before);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(before), &before));

	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(during), &during));
	EXPECT_EQ(1, CPU_COUNT(&during));
	EXPECT_TRUE(CPU_ISSET(self->core, &during));
	EXPECT_EQ(self->core, sched_getcpu());

	ASSERT_EQ(0, hpkvm_unbind(self->vcpu));
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(after), &after));
	EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST_F(lease, refusal_leaves_affinity_alone)
{
	cpu_set_t before, after;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(before), &before));
	EXPECT_EQ(EINVAL, hpkvm_bind(self->vcpu, ~0u, NULL));
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(after), &after));
	EXPECT_TRUE(CPU_EQUAL(&before, &after));
}

TEST_F(lease, unbind_needs_a_lease)
{
	EXPECT_EQ(ENOENT, hpkvm_unbind(self->vcpu));
	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
	EXPECT_EQ(ENOENT, hpkvm_unbind(self->vcpu));
}

/*
 * The IDT of a leased core lies where page table isolation maps it and where
 * SIDT gives nothing away: in the CPU entry area, as every other CPU's.
 */
TEST_F(lease, idt_is_no_leak)
{
	uint64_t idt;

	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	idt = get_idt().address;
	/* Linux emulates SIDT where CR4.UMIP is set. */
	if (idt != UMIP_DUMMY_IDT)
		EXPECT_EQ(CPU_ENTRY_AREA >> CPU_ENTRY_SHIFT,
			  idt >> CPU_ENTRY_SHIFT);
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

TEST_F(lease, state_before_and_after)
{
	struct kvm_hpkvm_state state = hpkvm_state(self->vcpu);

	EXPECT_EQ(KVM_HPKVM_MODE_UNBOUND, state.mode);
	EXPECT_EQ(~0u, state.cpu);
	EXPECT_EQ(KVM_HPKVM_REASON_NOT_BOUND, state.reason);
	EXPECT_EQ(0, state.promotions);
	EXPECT_EQ(0, state.demotions);
	EXPECT_EQ(0, state.reserved[0]);

	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	state = hpkvm_state(self->vcpu);
	EXPECT_EQ(KVM_HPKVM_MODE_EMULATED, state.mode);
	EXPECT_EQ(self->core, state.cpu);
	EXPECT_EQ(KVM_HPKVM_REASON_NOT_ENTERED, state.reason);

	ASSERT_EQ(0, hpkvm_unbind(self->vcpu));
	state = hpkvm_state(self->vcpu);
	EXPECT_EQ(KVM_HPKVM_MODE_UNBOUND, state.mode);
	EXPECT_EQ(~0u, state.cpu);
	EXPECT_EQ(KVM_HPKVM_REASON_NOT_BOUND, state.reason);
}

static void guest_exit_for_ever(void)
{
	for (;;)
		GUEST_SYNC(0);
}

static void spin_us(unsigned int us)
{
	struct timespec begin, now;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begin.tv_sec) * 1000000 +
		 (now.tv_nsec - begin.tv_nsec) / 1000 < us);
}

/* Returns since when the tick of the core is off, once it is; or 0. */
static uint64_t run_until_tick_stops(struct kvm_vcpu *vcpu)
{
	struct timespec begin;
	uint64_t since = 0;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (!since && !hpkvm_is_late(&begin)) {
		vcpu_run(vcpu);
		since = hpkvm_state(vcpu).tick_stopped_at;
	}
	return since;
}

/*
 * The tick that has stopped stays so over exits of 1 ms, whatever their number:
 * each round spans several ticks.  Others may need it: a few rounds are theirs.
 */
TEST_F_TIMEOUT(lease, tick_over_short_exits, 60 * PATIENCE)
{
	int round, i, kept = 0;
	uint64_t since;

	vcpu_arch_set_entry_point(self->vcpu, guest_exit_for_ever);
	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	for (round = 0; round < NR_EXIT_ROUNDS; round++) {
		since = run_until_tick_stops(self->vcpu);
		ASSERT_NE(0, since);
		for (i = 0; i < EXITS_PER_ROUND; i++) {
			spin_us(SHORT_EXIT_US);
			vcpu_run(self->vcpu);
		}
		kept += hpkvm_state(self->vcpu).tick_stopped_at == since;
	}
	TH_LOG("it stayed off in %d rounds of %d", kept, round);
	EXPECT_GE(kept, NR_EXIT_ROUNDS / 2);
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

/* One that never enters the guest. */
static void run_in_vain(struct kvm_vcpu *vcpu)
{
	vcpu->run->kvm_valid_regs = ~0ull;
	TEST_ASSERT(__vcpu_run(vcpu) == -1 && errno == EINVAL,
		    "KVM_RUN takes any kvm_valid_regs");
	vcpu->run->kvm_valid_regs = 0;
}

/* Milliseconds until the core has its tick back, or LONG_EXIT_MS. */
static int wait_for_tick(struct kvm_vcpu *vcpu, bool run)
{
	int ms;

	for (ms = 0; ms < LONG_EXIT_MS; ms++) {
		if (!hpkvm_state(vcpu).tick_stopped_at)
			break;
		if (run)
			run_in_vain(vcpu);
		spin_us(1000);
	}
	return ms;
}

/*
 * User space that stays gets the tick, by which its time is accounted for, also
 * if it looks in without entering the guest.  In nohz_full= it needs none.
 */
TEST_F_TIMEOUT(lease, tick_in_a_long_exit, 60 * PATIENCE)
{
	bool nohz_full = hpkvm_cpu_in_list("/sys/devices/system/cpu/nohz_full",
					   self->core);
	int round, came = 0;

	vcpu_arch_set_entry_point(self->vcpu, guest_exit_for_ever);
	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	for (round = 0; round < NR_LONG_EXITS; round++) {
		ASSERT_NE(0, run_until_tick_stops(self->vcpu));
		came += wait_for_tick(self->vcpu, round & 1) < LONG_EXIT_MS;
	}
	TH_LOG("the tick came in %d of %d", came, round);
	EXPECT_GE(came, nohz_full ? 0 : NR_LONG_EXITS);
	EXPECT_LE(came, nohz_full ? NR_LONG_EXITS / 2 : NR_LONG_EXITS);
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

/* The vCPU thread of the tests that watch from outside. */
struct runner {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	uint32_t core;
	uint64_t stopped;	/* at the guest's GUEST_SYNC() */
	uint64_t resume;
	uint64_t left;		/* unbound, thread about to end */
};

static void *run_walk(void *arg)
{
	struct kvm_lapic_state lapic;
	struct runner *r = arg;

	TEST_ASSERT(!hpkvm_bind(r->vcpu, r->core, NULL), "Can't bind");
	TEST_ASSERT_EQ(run_to_ucall(r->vcpu), UCALL_SYNC);
	vcpu_ioctl(r->vcpu, KVM_GET_LAPIC, &lapic);
	WRITE_ONCE(r->stopped, 1);
	TEST_ASSERT(wait_until(&r->resume, 1), "Told nothing");
	TEST_ASSERT_EQ(run_to_ucall(r->vcpu), UCALL_DONE);
	TEST_ASSERT(!hpkvm_unbind(r->vcpu), "Can't unbind");
	WRITE_ONCE(r->left, 1);
	return NULL;
}

TEST_F_TIMEOUT(lease, state_from_another_thread, 120 * PATIENCE)
{
	uint64_t *step = guest_var(self->vm, &guest_step);
	uint64_t *goal = guest_var(self->vm, &guest_goal);
	struct runner r = { .vcpu = self->vcpu, .core = self->core };
	struct kvm_hpkvm_state first, last;
	int i;

	vcpu_arch_set_entry_point(self->vcpu, guest_walk_modes);
	ASSERT_EQ(0, pthread_create(&r.thread, NULL, run_walk, &r));

	ASSERT_TRUE(wait_until(step, STEP_XAPIC));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_EMULATED,
			     KVM_HPKVM_REASON_LAPIC_MODE));
	WRITE_ONCE(*goal, STEP_DISABLED);

	ASSERT_TRUE(wait_until(step, STEP_DISABLED));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_EMULATED,
			     KVM_HPKVM_REASON_LAPIC_DISABLED));
	WRITE_ONCE(*goal, STEP_ENABLED);

	ASSERT_TRUE(wait_until(step, STEP_ENABLED));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
			     KVM_HPKVM_REASON_NONE));

	/* Asking must not kick the vCPU out of the guest. */
	first = hpkvm_state(self->vcpu);
	for (i = 0; i < NR_READS; i++)
		last = hpkvm_state(self->vcpu);
	EXPECT_EQ(self->core, last.cpu);
	EXPECT_EQ(first.promotions, last.promotions);
	EXPECT_LT(last.kicks - first.kicks, NR_READS / 10);
	WRITE_ONCE(*goal, STEP_DONE);

	ASSERT_TRUE(wait_until(&r.stopped, 1));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_EMULATED,
			     KVM_HPKVM_REASON_USER_ACCESS));
	EXPECT_EQ(first.demotions + 1, hpkvm_state(self->vcpu).demotions);
	WRITE_ONCE(r.resume, 1);

	ASSERT_TRUE(wait_until(step, STEP_DONE));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
			     KVM_HPKVM_REASON_NONE));
	EXPECT_EQ(first.promotions + 1, hpkvm_state(self->vcpu).promotions);
	WRITE_ONCE(*goal, STEP_DONE + 1);

	ASSERT_TRUE(wait_until(&r.left, 1));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_UNBOUND,
			     KVM_HPKVM_REASON_NOT_BOUND));
	pthread_join(r.thread, NULL);
}

TEST_F(lease, base_feature_off)
{
	struct kvm_vm *vm = hpkvm_vm_create(1, KVM_HPKVM_F_DIRECT_HLT);
	struct kvm_vcpu *vcpu = vm_vcpu_add(vm, 0, guest_self_ipi_loop);

	vm_install_exception_handler(vm, SELF_VECTOR, guest_irq_handler);
	ASSERT_EQ(0, hpkvm_bind(vcpu, self->core, NULL));
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(vcpu));
	EXPECT_TRUE(state_is(vcpu, KVM_HPKVM_MODE_EMULATED,
			     KVM_HPKVM_REASON_FEATURE_OFF));
	kvm_vm_free(vm);
}

/* What Linux never lets in is not the next guest's either. */
TEST_F(lease, stale_vector_is_drained)
{
	struct kvm_lapic_state lapic;
	uint32_t irr;

	load_self_ipi_loop(self->vcpu);
	hpkvm_write_msr(self->core, APIC_BASE_MSR + (APIC_SELF_IPI >> 4),
			STALE_VECTOR);
	ASSERT_EQ(BIT(STALE_VECTOR), hpkvm_stale_vectors(self->core));

	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_EQ(0, hpkvm_stale_vectors(self->core));
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
			     KVM_HPKVM_REASON_NONE));
	vcpu_ioctl(self->vcpu, KVM_GET_LAPIC, &lapic);
	memcpy(&irr, lapic.regs + APIC_IRR, sizeof(irr));
	EXPECT_EQ(0, irr);
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
	EXPECT_STREQ("works", hpkvm_check_core(self->core));
}

/* What interrupts is masked meanwhile; what firmware asked for is not. */
TEST_F(lease, local_vectors)
{
	static const struct {
		uint32_t before, during;
	} lvts[] = {
		{ APIC_DM_FIXED | LVT_VECTOR,
		  APIC_DM_FIXED | LVT_VECTOR | APIC_LVT_MASKED },
		{ APIC_DM_FIXED | LVT_VECTOR | APIC_LVT_MASKED,
		  APIC_DM_FIXED | LVT_VECTOR | APIC_LVT_MASKED },
		{ APIC_DM_SMI, APIC_DM_SMI },
		{ APIC_DM_NMI, APIC_DM_NMI },
	};
	uint32_t msr = APIC_BASE_MSR + (APIC_LVTTHMR >> 4);
	uint64_t saved = hpkvm_read_msr(self->core, msr);
	int i;

	for (i = 0; i < ARRAY_SIZE(lvts); i++) {
		hpkvm_write_msr(self->core, msr, lvts[i].before);
		ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
		EXPECT_EQ(lvts[i].during, hpkvm_read_msr(self->core, msr));
		ASSERT_EQ(0, hpkvm_unbind(self->vcpu));
		EXPECT_EQ(lvts[i].before, hpkvm_read_msr(self->core, msr));
	}
	hpkvm_write_msr(self->core, msr, saved);
}

/* Whoever moves the thread away gets a guest that still works. */
TEST_F(lease, thread_moved_away)
{
	bind_self_ipi_loop(self->vcpu, self->core);
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
			     KVM_HPKVM_REASON_NONE));

	hpkvm_pin(0);
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_EMULATED,
			     KVM_HPKVM_REASON_WRONG_CPU));

	hpkvm_pin(self->core);
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
			     KVM_HPKVM_REASON_NONE));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

/* Refused at once: nothing of it reaches the guest or its thread. */
TEST_F(lease, offline_attempt_is_harmless)
{
	cpu_set_t set;

	bind_self_ipi_loop(self->vcpu, self->core);

	EXPECT_FALSE(hpkvm_set_online(self->core, false));
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(set), &set));
	EXPECT_EQ(1, CPU_COUNT(&set));
	EXPECT_TRUE(CPU_ISSET(self->core, &set));
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	EXPECT_EQ(KVM_HPKVM_MODE_PASSTHROUGH, hpkvm_state(self->vcpu).mode);

	ASSERT_EQ(0, hpkvm_unbind(self->vcpu));
	EXPECT_TRUE(hpkvm_set_online(self->core, false));
	EXPECT_TRUE(hpkvm_set_online(self->core, true));
}

/* The core holds what these ask for. */
static const struct {
	const char *name;
	unsigned long get;
	unsigned long set;
} user_accesses[] = {
	{ "LAPIC", KVM_GET_LAPIC, KVM_SET_LAPIC },
	{ "MSRS", KVM_GET_MSRS, KVM_SET_MSRS },
	{ "VCPU_EVENTS", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS },
	{ "MP_STATE", KVM_GET_MP_STATE, KVM_SET_MP_STATE },
};

/* No MSR is asked for: the buffer's first word is their number. */
TEST_F_TIMEOUT(lease, user_access_demotes, 60 * PATIENCE)
{
	char buffer[4096] = {};
	int i, set;

	load_self_ipi_loop(self->vcpu);
	ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));

	for (i = 0; i < ARRAY_SIZE(user_accesses); i++) {
		for (set = 0; set < 2; set++) {
			ASSERT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
			ASSERT_EQ(KVM_HPKVM_MODE_PASSTHROUGH,
				  hpkvm_state(self->vcpu).mode);
			if (!set)
				memset(buffer, 0, sizeof(buffer));
			ASSERT_LE(0, ioctl(self->vcpu->fd,
					   set ? user_accesses[i].set :
						 user_accesses[i].get, buffer));
			EXPECT_TRUE(state_is(self->vcpu,
					     KVM_HPKVM_MODE_EMULATED,
					     KVM_HPKVM_REASON_USER_ACCESS)) {
				TH_LOG("%s %s", set ? "SET" : "GET",
				       user_accesses[i].name);
			}
		}
	}

	/* The same state by way of the shared page. */
	ASSERT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	vcpu_events_get(self->vcpu, &self->vcpu->run->s.regs.events);
	ASSERT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	i = hpkvm_state(self->vcpu).demotions;
	self->vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_EVENTS;
	ASSERT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	EXPECT_EQ(i + 1, hpkvm_state(self->vcpu).demotions);
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

/* Three ways to the special registers.  What they share comes first in both. */
enum sregs_way {
	SREGS,
	SREGS2,
	SREGS_PAGE,
	NR_SREGS_WAYS,
};

static const char * const sregs_ways[] = { "SREGS", "SREGS2", "shared page" };

union sregs {
	struct kvm_sregs sregs;
	struct kvm_sregs2 sregs2;
};

/* The page holds what was there at the last exit. */
static void get_sregs(struct kvm_vcpu *vcpu, enum sregs_way way, union sregs *s)
{
	if (way == SREGS)
		vcpu_ioctl(vcpu, KVM_GET_SREGS, &s->sregs);
	else if (way == SREGS2)
		vcpu_ioctl(vcpu, KVM_GET_SREGS2, &s->sregs2);
	else
		s->sregs = vcpu->run->s.regs.sregs;
}

/* KVM reads the page at the next KVM_RUN, whether or not that enters. */
static void set_sregs(struct kvm_vcpu *vcpu, enum sregs_way way, union sregs *s)
{
	if (way == SREGS) {
		vcpu_ioctl(vcpu, KVM_SET_SREGS, &s->sregs);
	} else if (way == SREGS2) {
		vcpu_ioctl(vcpu, KVM_SET_SREGS2, &s->sregs2);
	} else {
		vcpu->run->s.regs.sregs = s->sregs;
		vcpu->run->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
		vcpu_run_complete_io(vcpu);
	}
}

/* Guest: its TPR and CR8 after each KVM_RUN, and its TPR before. */
static uint64_t guest_tpr;
static uint64_t guest_cr8;
static uint64_t guest_next_tpr;

static void guest_change_tpr(void)
{
	uint64_t cr8;

	guest_enter_x2apic();
	/* Counts for longer than any test; masked, as nobody waits for it. */
	x2apic_write_reg(APIC_LVTT, APIC_LVT_MASKED | SELF_VECTOR);
	x2apic_write_reg(APIC_TDCR, 0xa);
	x2apic_write_reg(APIC_TMICT, ~0u);
	for (;;) {
		x2apic_write_reg(APIC_TASKPRI, READ_ONCE(guest_next_tpr));
		GUEST_SYNC(0);
		asm volatile("mov %%cr8, %0" : "=r"(cr8));
		WRITE_ONCE(guest_cr8, cr8);
		WRITE_ONCE(guest_tpr, x2apic_read_reg(APIC_TASKPRI));
	}
}

/* With all that the host can do: the timer is to be the core's. */
static struct kvm_vcpu *tpr_vcpu(uint32_t core)
{
	struct kvm_vm *vm = hpkvm_vm_create(1, kvm_check_cap(KVM_CAP_X86_HPKVM));
	struct kvm_vcpu *vcpu = vm_vcpu_add(vm, 0, guest_change_tpr);

	TEST_ASSERT(!hpkvm_bind(vcpu, core, NULL), "Can't bind");
	vcpu->run->kvm_valid_regs = KVM_SYNC_X86_SREGS;
	return vcpu;
}

/*
 * CR8 is all that the special registers have of the local APIC's state, and
 * between two entries KVM has it.  A CR8 that is set has no sub-class, as the
 * guest's own.
 */
TEST_F_TIMEOUT(lease, sregs_leave_passthrough_alone, 120 * PATIENCE)
{
	struct kvm_vcpu *vcpu = tpr_vcpu(self->core);
	uint64_t *next = guest_var(vcpu->vm, &guest_next_tpr);
	uint64_t *tpr = guest_var(vcpu->vm, &guest_tpr);
	uint64_t *cr8 = guest_var(vcpu->vm, &guest_cr8);
	enum sregs_way way;
	union sregs s;
	int prio;

	for (way = 0; way < NR_SREGS_WAYS; way++) {
		for (prio = 0; prio < 16; prio++) {
			*next = prio << 4 | 0x5;
			ASSERT_EQ(UCALL_SYNC, run_to_ucall(vcpu));
			get_sregs(vcpu, way, &s);
			EXPECT_EQ(prio, s.sregs.cr8) {
				TH_LOG("GET by %s", sregs_ways[way]);
			}

			ASSERT_EQ(UCALL_SYNC, run_to_ucall(vcpu));
			EXPECT_EQ(prio, *cr8);
			EXPECT_EQ(prio << 4 | 0x5, *tpr) {
				TH_LOG("after GET by %s", sregs_ways[way]);
			}

			get_sregs(vcpu, way, &s);
			s.sregs.cr8 = 15 - prio;
			set_sregs(vcpu, way, &s);
			EXPECT_EQ(KVM_HPKVM_MODE_PASSTHROUGH,
				  hpkvm_state(vcpu).mode);
			ASSERT_EQ(UCALL_SYNC, run_to_ucall(vcpu));
			EXPECT_EQ(15 - prio, *cr8);
			EXPECT_EQ((15 - prio) << 4, *tpr) {
				TH_LOG("after SET by %s", sregs_ways[way]);
			}
		}
	}
	EXPECT_EQ(KVM_HPKVM_MODE_PASSTHROUGH, hpkvm_state(vcpu).mode);
	EXPECT_EQ(1, hpkvm_state(vcpu).promotions);
	EXPECT_EQ(0, hpkvm_state(vcpu).demotions);
	EXPECT_EQ(0, hpkvm_unbind(vcpu));
	kvm_vm_free(vcpu->vm);
}

/* As in stock KVM: what is set is injected, and is in no local APIC. */
TEST_F_TIMEOUT(lease, sregs_interrupt_in_passthrough, 60 * PATIENCE)
{
	uint64_t *irqs = guest_var(self->vm, &guest_irqs);
	struct kvm_sregs sregs;
	__u64 *word = &sregs.interrupt_bitmap[SELF_VECTOR / 64];

	bind_self_ipi_loop(self->vcpu, self->core);

	vcpu_sregs_get(self->vcpu, &sregs);
	EXPECT_EQ(0, *word);
	*word = BIT_ULL(SELF_VECTOR % 64);
	vcpu_sregs_set(self->vcpu, &sregs);
	vcpu_sregs_get(self->vcpu, &sregs);
	EXPECT_EQ(BIT_ULL(SELF_VECTOR % 64), *word);

	/* One more beside the guest's own. */
	ASSERT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	EXPECT_EQ(3, *irqs);
	vcpu_sregs_get(self->vcpu, &sregs);
	EXPECT_EQ(0, *word);
	EXPECT_EQ(KVM_HPKVM_MODE_PASSTHROUGH, hpkvm_state(self->vcpu).mode);
	EXPECT_EQ(0, hpkvm_state(self->vcpu).demotions);
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

/* The timer moves to KVM's local APIC while that is in x2APIC mode, or never. */
TEST_F_TIMEOUT(lease, sregs_without_x2apic_demote, 120 * PATIENCE)
{
	struct kvm_vcpu *vcpu = tpr_vcpu(self->core);
	struct kvm_lapic_state lapic;
	enum sregs_way way;
	uint64_t x2apic;
	union sregs s;

	for (way = 0; way < NR_SREGS_WAYS; way++) {
		ASSERT_EQ(UCALL_SYNC, run_to_ucall(vcpu));
		ASSERT_EQ(KVM_HPKVM_MODE_PASSTHROUGH, hpkvm_state(vcpu).mode);
		ASSERT_EQ(way, hpkvm_state(vcpu).demotions);

		get_sregs(vcpu, way, &s);
		x2apic = s.sregs.apic_base;
		s.sregs.apic_base &= ~MSR_IA32_APICBASE_EXTD;
		set_sregs(vcpu, way, &s);
		EXPECT_TRUE(state_is(vcpu, KVM_HPKVM_MODE_EMULATED,
				     KVM_HPKVM_REASON_LAPIC_MODE)) {
			TH_LOG("SET by %s", sregs_ways[way]);
		}
		EXPECT_EQ(way + 1, hpkvm_state(vcpu).demotions);
		vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
		EXPECT_NE(0, *(uint32_t *)(lapic.regs + APIC_TMCCT)) {
			TH_LOG("SET by %s", sregs_ways[way]);
		}

		s.sregs.apic_base = x2apic;
		set_sregs(vcpu, way, &s);
	}
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(vcpu));
	EXPECT_EQ(0, hpkvm_unbind(vcpu));
	kvm_vm_free(vcpu->vm);
}

/* What a debugger has done to a vCPU is over when it says so. */
TEST_F_TIMEOUT(lease, debugger_leaves, 60 * PATIENCE)
{
	struct kvm_guest_debug debug = { .control = KVM_GUESTDBG_ENABLE };

	bind_self_ipi_loop(self->vcpu, self->core);
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
			     KVM_HPKVM_REASON_NONE));

	vcpu_guest_debug_set(self->vcpu, &debug);
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_EMULATED,
			     KVM_HPKVM_REASON_DEBUG));
	debug.control = 0;
	vcpu_guest_debug_set(self->vcpu, &debug);
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_EMULATED,
			     KVM_HPKVM_REASON_NOT_ENTERED));
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
	EXPECT_TRUE(state_is(self->vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
			     KVM_HPKVM_REASON_NONE));
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

TEST_F_TIMEOUT(lease, binary_statistics, 60 * PATIENCE)
{
	struct kvm_hpkvm_state state;
	struct kvm_lapic_state lapic;

	bind_self_ipi_loop(self->vcpu, self->core);
	vcpu_ioctl(self->vcpu, KVM_GET_LAPIC, &lapic);
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));

	state = hpkvm_state(self->vcpu);
	EXPECT_EQ(2, state.promotions);
	EXPECT_EQ(1, state.demotions);
	EXPECT_EQ(state.promotions,
		  hpkvm_vcpu_stat(self->vcpu, "hpkvm_promotions"));
	EXPECT_EQ(state.demotions,
		  hpkvm_vcpu_stat(self->vcpu, "hpkvm_demotions"));
	EXPECT_EQ(state.captured,
		  hpkvm_vcpu_stat(self->vcpu, "hpkvm_captured"));
	EXPECT_EQ(state.injected,
		  hpkvm_vcpu_stat(self->vcpu, "hpkvm_injected"));
	EXPECT_EQ(state.direct_sent,
		  hpkvm_vcpu_stat(self->vcpu, "hpkvm_direct_sent"));
	hpkvm_vcpu_stat(self->vcpu, "hpkvm_kicks");
	hpkvm_vcpu_stat(self->vcpu, "hpkvm_entry_aborts");
	hpkvm_vcpu_stat(self->vcpu, "hpkvm_eoi_exits");
	EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
}

TEST_F_TIMEOUT(lease, vm_closed_while_bound, 60 * PATIENCE)
{
	cpu_set_t before, after;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(before), &before));
	bind_self_ipi_loop(self->vcpu, self->core);

	kvm_vm_free(self->vm);
	self->vm = NULL;
	ASSERT_EQ(0, sched_getaffinity(0, sizeof(after), &after));
	EXPECT_TRUE(CPU_EQUAL(&before, &after));
	EXPECT_TRUE(can_be_leased(self->core));
	EXPECT_STREQ("works", hpkvm_check_core(self->core));
}

/* KVM keeps a vCPU, and so its lease, as long as the VM. */
TEST_F_TIMEOUT(lease, vcpu_closed_while_bound, 60 * PATIENCE)
{
	struct kvm_vcpu *vcpu = self->vcpu;
	struct kvm_vcpu *other = vm_vcpu_add(self->vm, 1, NULL);
	int size;

	ASSERT_EQ(0, hpkvm_bind(vcpu, self->core, NULL));

	/* The mapping holds the file, too. */
	size = ioctl(self->vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
	ASSERT_EQ(0, munmap(vcpu->run, size));
	ASSERT_EQ(0, close(vcpu->fd));
	list_del(&vcpu->list);
	EXPECT_EQ(EBUSY, hpkvm_bind(other, self->core, NULL));

	kvm_vm_free(self->vm);
	self->vm = NULL;
	EXPECT_TRUE(can_be_leased(self->core));
}

/* A guest that nobody can ask to stop: SIGKILL takes process and lease. */
TEST_F_TIMEOUT(lease, killed_while_in_guest, 120 * PATIENCE)
{
	uint64_t *running;
	int status;
	pid_t child;

	running = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, running);

	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		struct hpkvm_runner r = { .core = self->core };
		struct kvm_vm *vm = hpkvm_vm_create(1, KVM_HPKVM_F_DIRECT_IRQ);
		pthread_t thread;

		r.vcpu = vm_vcpu_add(vm, 0, guest_spin);
		if (pthread_create(&thread, NULL, hpkvm_bind_and_run, &r) ||
		    !wait_until(guest_var(vm, &guest_step), STEP_ENABLED) ||
		    !state_is(r.vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
			      KVM_HPKVM_REASON_NONE))
			_exit(1);
		WRITE_ONCE(*running, 1);
		pause();
		_exit(1);
	}

	EXPECT_TRUE(wait_until(running, 1));
	EXPECT_EQ(EBUSY, hpkvm_bind(self->vcpu, self->core, NULL));
	EXPECT_EQ(0, kill(child, SIGKILL));
	EXPECT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));

	EXPECT_TRUE(can_be_leased(self->core));
	EXPECT_STREQ("works", hpkvm_check_core(self->core));
}

TEST_F_TIMEOUT(lease, core_works_after_unbind, 120 * PATIENCE)
{
	EXPECT_STREQ("works", hpkvm_check_core(self->core));

	bind_self_ipi_loop(self->vcpu, self->core);
	ASSERT_EQ(0, hpkvm_unbind(self->vcpu));

	EXPECT_STREQ("works", hpkvm_check_core(self->core));

	/* The guest lives on without the core. */
	EXPECT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
}

TEST_F_TIMEOUT(lease, bind_a_thousand_times, 600 * PATIENCE)
{
	uint64_t *irqs = guest_var(self->vm, &guest_irqs);
	int cycles = hpkvm_setting("HPKVM_CYCLES", NR_CYCLES);
	int i;

	load_self_ipi_loop(self->vcpu);
	for (i = 1; i <= cycles; i++) {
		ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL)) {
			TH_LOG("in cycle %d", i);
		}
		ASSERT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
		ASSERT_EQ(KVM_HPKVM_MODE_PASSTHROUGH,
			  hpkvm_state(self->vcpu).mode);
		ASSERT_EQ(0, hpkvm_unbind(self->vcpu));
		ASSERT_EQ(i, READ_ONCE(*irqs));
	}
	EXPECT_EQ(cycles, hpkvm_state(self->vcpu).promotions);
	EXPECT_EQ(cycles, hpkvm_state(self->vcpu).demotions);
	EXPECT_STREQ("works", hpkvm_check_core(self->core));
}

/* Someone who may: the same user's thread. */
struct mover {
	pthread_t thread;
	pid_t victim;
	bool stop;
};

static void *move_victim(void *arg)
{
	struct mover *m = arg;
	cpu_set_t away;

	CPU_ZERO(&away);
	CPU_SET(0, &away);
	while (!READ_ONCE(m->stop))
		sched_setaffinity(m->victim, sizeof(away), &away);
	return NULL;
}

/* A lease is of the core that was asked for, wherever its taker is driven. */
TEST_F_TIMEOUT(lease, thread_moved_while_binding, 300 * PATIENCE)
{
	struct mover m = { .victim = gettid() };
	cpu_set_t before;
	int i, binds = hpkvm_count(NR_MOVED_BINDS);

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(before), &before));
	load_self_ipi_loop(self->vcpu);
	ASSERT_EQ(0, pthread_create(&m.thread, NULL, move_victim, &m));
	for (i = 0; i < binds; i++) {
		EXPECT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL));
		EXPECT_EQ(self->core, hpkvm_state(self->vcpu).cpu);
		EXPECT_EQ(UCALL_SYNC, run_to_ucall(self->vcpu));
		EXPECT_EQ(0, hpkvm_unbind(self->vcpu));
	}
	WRITE_ONCE(m.stop, true);
	pthread_join(m.thread, NULL);

	ASSERT_EQ(0, sched_setaffinity(0, sizeof(before), &before));
	EXPECT_STREQ("works", hpkvm_check_core(self->core));
	EXPECT_STREQ("works", hpkvm_check_core(0));
}

/* A vCPU thread that sleeps on its core, and counts the bytes it gets. */
struct waiter {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	uint32_t core;
	int wake_up[2];
	uint64_t woken;
};

static void *wait_for_bytes(void *arg)
{
	struct waiter *w = arg;
	char c;

	TEST_ASSERT(!hpkvm_bind(w->vcpu, w->core, NULL), "Can't bind");
	TEST_ASSERT_EQ(run_to_ucall(w->vcpu), UCALL_SYNC);
	while (read(w->wake_up[0], &c, 1) == 1)
		WRITE_ONCE(w->woken, w->woken + 1);
	TEST_ASSERT(!hpkvm_unbind(w->vcpu), "Can't unbind");
	return NULL;
}

/* Without sleeping: the core is to be met on its way to HLT. */
static bool spin_until(uint64_t *var, uint64_t value)
{
	uint64_t end = rdtsc() + WAIT_SECONDS * 1000ull * guest_tsc_khz;

	while (READ_ONCE(*var) < value) {
		if (rdtsc() > end)
			return false;
	}
	return true;
}

/* Arms its timer until it may not. */
static void guest_arm_deadline(void)
{
	uint8_t fault = 0;

	guest_enter_x2apic();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | SELF_VECTOR);
	while (!fault) {
		WRITE_ONCE(guest_irqs, guest_irqs + 1);
		fault = wrmsr_safe(MSR_IA32_TSC_DEADLINE, ~0ull);
	}
	GUEST_ASSERT_EQ(fault, GP_VECTOR);
	GUEST_DONE();
}

static void *run_until_done(void *arg)
{
	struct runner *r = arg;

	TEST_ASSERT(!hpkvm_bind(r->vcpu, r->core, NULL), "Can't bind");
	TEST_ASSERT_EQ(run_to_ucall(r->vcpu), UCALL_DONE);
	WRITE_ONCE(r->stopped, 1);
	return NULL;
}

/* A filter that comes while the guest has the timer to itself is obeyed. */
TEST_F_TIMEOUT(lease, msr_filter_comes_late, 120 * PATIENCE)
{
	uint8_t deny = 0;
	struct kvm_msr_filter filter = {
		.ranges[0] = {
			.flags = KVM_MSR_FILTER_WRITE,
			.base = MSR_IA32_TSC_DEADLINE,
			.nmsrs = 1,
			.bitmap = &deny,
		},
	};
	struct kvm_vm *vm = hpkvm_vm_create(1, kvm_check_cap(KVM_CAP_X86_HPKVM));
	struct runner r = { .core = self->core };
	uint64_t *armed = guest_var(vm, &guest_irqs);

	r.vcpu = vm_vcpu_add(vm, 0, guest_arm_deadline);
	vcpu_set_cpuid_feature(r.vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);
	ASSERT_EQ(0, pthread_create(&r.thread, NULL, run_until_done, &r));
	ASSERT_TRUE(state_is(r.vcpu, KVM_HPKVM_MODE_PASSTHROUGH,
			     KVM_HPKVM_REASON_NONE));

	ASSERT_TRUE(wait_until(armed, 100000));
	vm_ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
	ASSERT_TRUE(wait_until(&r.stopped, 1));
	pthread_join(r.thread, NULL);
	/* Or else the filter had nothing to close, where there is such a mode. */
	if (hpkvm_host_has_deadline())
		EXPECT_LT(hpkvm_vcpu_stat(r.vcpu, "exits"), *armed / 2);
	kvm_vm_free(vm);
}

/*
 * A wake-up reaches an idle dedicated core as an NMI.  Vary the time since the
 * core last worked, so that some arrive in each step on the way to HLT; the
 * narrowest is between STI and HLT.  One that is lost is never made good: the
 * core has no tick.
 */
TEST_F_TIMEOUT(lease, wake_up_the_idle_core, 600 * PATIENCE)
{
	struct waiter w = { .vcpu = self->vcpu, .core = self->core };
	int i, pause, wakeups = hpkvm_count(NR_WAKEUPS);
	char c = 0;

	load_self_ipi_loop(self->vcpu);
	ASSERT_EQ(0, pipe(w.wake_up));
	ASSERT_EQ(0, pthread_create(&w.thread, NULL, wait_for_bytes, &w));

	for (i = 1; i <= wakeups; i++) {
		ASSERT_EQ(1, write(w.wake_up[1], &c, 1));
		ASSERT_TRUE(spin_until(&w.woken, i)) {
			TH_LOG("wake-up %d is lost", i);
		}
		for (pause = i * PAUSE_STEP % MAX_PAUSE; pause; pause--)
			asm volatile("" : : : "memory");
	}
	close(w.wake_up[1]);
	pthread_join(w.thread, NULL);
	close(w.wake_up[0]);
}

/* Keeps calling a function on every other CPU that runs this process. */
struct caller {
	pthread_t thread;
	uint64_t calls;
	bool stop;
};

static void *call_all(void *arg)
{
	struct caller *c = arg;

	hpkvm_pin(0);
	while (!READ_ONCE(c->stop)) {
		if (syscall(__NR_membarrier,
			    MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
			TEST_FAIL("membarrier() failed");
		WRITE_ONCE(c->calls, c->calls + 1);
	}
	return NULL;
}

/*
 * Holds a lease of another core.  The first one and the last one patch the
 * kernel: between these, leases come and go faster.
 */
struct holder {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	uint32_t core;
	uint64_t holds;
	bool stop;
};

static void *hold_core(void *arg)
{
	struct holder *h = arg;

	TEST_ASSERT(!hpkvm_bind(h->vcpu, h->core, NULL), "Can't bind");
	WRITE_ONCE(h->holds, 1);
	while (!READ_ONCE(h->stop))
		usleep(10000);
	TEST_ASSERT(!hpkvm_unbind(h->vcpu), "Can't unbind");
	return NULL;
}

/* Makes an IPI to the core one to several CPUs. */
static void *spin_somewhere(void *arg)
{
	struct caller *c = arg;

	while (!READ_ONCE(c->stop))
		cpu_relax();
	return NULL;
}

/*
 * A sender with several targets may find one of them leased at one step and
 * ordinary at the next: it sends to it once.  A call that is lost holds up its
 * sender, and all later ones, for ever.
 */
TEST_F_TIMEOUT(lease, group_calls_while_leases_end, 300 * PATIENCE)
{
	struct holder h = { .vcpu = vm_vcpu_add(self->vm, 1, NULL) };
	struct caller c = {};
	uint32_t cores[2];
	pthread_t spinner;
	cpu_set_t affinity;
	uint64_t before;
	int cycles = hpkvm_setting("HPKVM_CYCLES", NR_GROUP_CYCLES);
	int i;

	if (hpkvm_find_cores(cores, 2) < 2)
		SKIP(return, "the host can't lease 2 CPUs");
	h.core = cores[0] == self->core ? cores[1] : cores[0];
	ASSERT_EQ(0, pthread_create(&h.thread, NULL, hold_core, &h));
	ASSERT_TRUE(wait_until(&h.holds, 1));

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(affinity), &affinity));
	ASSERT_EQ(0, syscall(__NR_membarrier,
			     MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0));
	ASSERT_EQ(0, pthread_create(&spinner, NULL, spin_somewhere, &c));
	hpkvm_pin(self->core);
	ASSERT_EQ(0, pthread_create(&c.thread, NULL, call_all, &c));

	for (i = 1; i <= cycles; i++) {
		ASSERT_EQ(0, hpkvm_bind(self->vcpu, self->core, NULL)) {
			TH_LOG("in cycle %d", i);
		}
		ASSERT_EQ(0, hpkvm_unbind(self->vcpu));
		before = READ_ONCE(c.calls);
		ASSERT_TRUE(spin_until(&c.calls, before + 2)) {
			TH_LOG("a call is lost in cycle %d", i);
		}
	}
	WRITE_ONCE(c.stop, true);
	WRITE_ONCE(h.stop, true);
	pthread_join(c.thread, NULL);
	pthread_join(spinner, NULL);
	pthread_join(h.thread, NULL);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(affinity), &affinity));
	EXPECT_STREQ("works", hpkvm_check_core(self->core));
}

TEST_HARNESS_MAIN
