// SPDX-License-Identifier: GPL-2.0-only
/*
 * The local APIC timer of a vCPU on a dedicated core: what KVM says of the
 * host's timers and of the vCPU's, and that it is so, by the count of exits.  No
 * timer fires early.
 *
 * On hosts with TSC-deadline mode and, as AMD sells them, without.
 */
#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define VECTOR		0x41
#define NR_TIMERS	400	/* see hpkvm_count() */
#define TIMER_US	200
#define FAR_SECONDS	60	/* at 100 MHz: more than 32 bits hold */
#define PERIOD_NS	300000000ull
#define NR_PERIODS	4
#define NR_STEPS	(NR_PERIODS * 100)
#define TDCR_DIV_1	0xb
#define TDCR_DIV_4	0x1
#define TDCR_DIV_8	0x2

/* The host's side and the guest's. */
static struct shared {
	uint64_t nr, bus_ns;
	uint64_t taken, taken_at;
} shared;

struct machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	uint32_t core;
	uint64_t host_ns;
	bool host_deadline;
};

FIXTURE(timer) {
	struct machine m;
};

/* ---- The guest ---- */

static void guest_handler(struct ex_regs *regs)
{
	shared.taken_at = rdtsc();
	shared.taken++;
	x2apic_write_reg(APIC_EOI, 0);
}

static uint64_t guest_cycles(uint64_t ns)
{
	return ns * guest_tsc_khz / 1000000;
}

static void guest_init(uint32_t lvtt)
{
	x2apic_enable();
	x2apic_write_reg(APIC_LVT0, APIC_LVT_MASKED);
	x2apic_write_reg(APIC_TDCR, TDCR_DIV_1);
	x2apic_write_reg(APIC_LVTT, lvtt | VECTOR);
}

static void guest_await(uint64_t taken)
{
	asm volatile("sti");
	while (READ_ONCE(shared.taken) < taken)
		cpu_relax();
	asm volatile("cli");
	GUEST_ASSERT_EQ(shared.taken, taken);
}

static void guest_counts(void)
{
	uint64_t counts = TIMER_US * 1000 / shared.bus_ns, i, start;
	/* KVM takes rates for equal that are to within 0.4 %. */
	uint64_t least = guest_cycles(TIMER_US * 1000) * 99 / 100;

	guest_init(0);
	GUEST_SYNC(0);
	for (i = 1; i <= shared.nr; i++) {
		start = rdtsc();
		x2apic_write_reg(APIC_TMICT, counts);
		guest_await(i);
		GUEST_ASSERT(shared.taken_at - start >= least);
	}
	GUEST_SYNC(1);
}

static uint64_t guest_arm(uint64_t ns)
{
	uint64_t due = rdtsc() + guest_cycles(ns);

	wrmsr(MSR_IA32_TSC_DEADLINE, due);
	return due;
}

static void guest_deadlines(void)
{
	uint64_t i, due;

	guest_init(APIC_LVT_TIMER_TSCDEADLINE);
	GUEST_SYNC(0);
	for (i = 1; i <= shared.nr; i++) {
		due = guest_arm(TIMER_US * 1000);
		guest_await(i);
		GUEST_ASSERT(shared.taken_at >= due);
	}
	GUEST_SYNC(1);
}

static void guest_reads_back(void)
{
	uint64_t due;

	guest_init(APIC_LVT_TIMER_TSCDEADLINE);
	due = guest_arm(FAR_SECONDS * 1000000000ull);
	GUEST_SYNC(0);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), due);
	wrmsr(MSR_IA32_TSC_DEADLINE, 0);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), 0);
	GUEST_SYNC(1);

	/* Beyond all counts, and back. */
	due = rdtsc() + BIT_ULL(60);
	wrmsr(MSR_IA32_TSC_DEADLINE, due);
	GUEST_SYNC(2);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), due);
	guest_arm(TIMER_US * 1000);
	guest_await(1);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), 0);
	GUEST_SYNC(3);
}

/* A TSC that is set goes on to the same deadline, from elsewhere. */
static void guest_sets_tsc(void)
{
	uint64_t due, armed, way = guest_cycles(20000000);

	guest_init(APIC_LVT_TIMER_TSCDEADLINE);
	due = guest_arm(TIMER_US * 1000 + 1000000);
	wrmsr(MSR_IA32_TSC, rdtsc() - way);
	GUEST_SYNC(0);
	/* It may expire at any moment, and is taken then. */
	armed = rdmsr(MSR_IA32_TSC_DEADLINE);
	if (!READ_ONCE(shared.taken))
		GUEST_ASSERT_EQ(armed, due);
	guest_await(1);
	GUEST_ASSERT(shared.taken_at >= due);

	/* What has expired is not armed again by a TSC that is set back. */
	wrmsr(MSR_IA32_TSC, due - way);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), 0);
	wrmsr(MSR_IA32_TSC, due - guest_cycles(1000000));
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), 0);
	while (rdtsc() < due + guest_cycles(1000000))
		cpu_relax();
	guest_await(1);

	/* It is over at once when the TSC leaps beyond. */
	guest_arm(FAR_SECONDS * 1000000000ull);
	wrmsr(MSR_IA32_TSC, rdtsc() + guest_cycles(FAR_SECONDS * 1000000000ull));
	guest_await(2);
	GUEST_SYNC(1);
}

/* A period that becomes one-shot goes on to its end, whoever counts it. */
static void guest_stops_periods(void)
{
	uint64_t start, least = guest_cycles(PERIOD_NS) * 99 / 100;

	guest_init(APIC_LVT_TIMER_PERIODIC);
	start = rdtsc();
	x2apic_write_reg(APIC_TMICT, PERIOD_NS / shared.bus_ns);
	/* One that has just begun moves at once. */
	while (rdtsc() < start + least / 4)
		cpu_relax();
	GUEST_SYNC(0);
	x2apic_write_reg(APIC_LVTT, VECTOR);
	guest_await(1);
	GUEST_ASSERT(shared.taken_at - start >= least);
	GUEST_SYNC(1);
}

/* In steps of a hundredth of a period, and after each the host does something. */
static void guest_takes_periods(void)
{
	uint64_t next, step = guest_cycles(PERIOD_NS / 100), elapsed;
	int i;

	guest_init(APIC_LVT_TIMER_PERIODIC);
	x2apic_write_reg(APIC_TMICT, PERIOD_NS / shared.bus_ns);
	asm volatile("sti");
	next = rdtsc();
	elapsed = -next;
	for (i = 0; i < NR_STEPS; i++) {
		for (next += step; rdtsc() < next; )
			cpu_relax();
		GUEST_SYNC(0);
	}
	elapsed += rdtsc();
	/* Some may have merged while the vCPU did not run. */
	GUEST_ASSERT(shared.taken >= elapsed / guest_cycles(PERIOD_NS) / 2);
	GUEST_SYNC(1);
}

/* How many counts the timer makes in 10 ms. */
static uint64_t guest_counted(void)
{
	uint64_t start, cycles = guest_cycles(10000000);

	x2apic_write_reg(APIC_TMICT, ~0u);
	start = rdtsc();
	while (rdtsc() - start < cycles)
		cpu_relax();
	return ~0u - x2apic_read_reg(APIC_TMCCT);
}

static void guest_divides(void)
{
	uint64_t counts = 10000000 / shared.bus_ns, counted;

	guest_init(0);
	x2apic_write_reg(APIC_TDCR, TDCR_DIV_8);
	counted = guest_counted();
	GUEST_ASSERT(counted >= counts / 8 * 9 / 10);

	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | VECTOR);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TDCR), TDCR_DIV_8);
	guest_arm(TIMER_US * 1000);
	guest_await(1);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TDCR), TDCR_DIV_8);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TMICT), 0);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TMCCT), 0);
	guest_arm(FAR_SECONDS * 1000000000ull);
	x2apic_write_reg(APIC_TDCR, TDCR_DIV_4);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TDCR), TDCR_DIV_4);

	x2apic_write_reg(APIC_LVTT, VECTOR);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TMCCT), 0);
	GUEST_ASSERT_EQ(x2apic_read_reg(APIC_TDCR), TDCR_DIV_4);
	counted = guest_counted();
	GUEST_ASSERT(counted >= counts / 4 * 9 / 10);
	x2apic_write_reg(APIC_TMICT, 0);
	guest_await(1);
	GUEST_SYNC(0);
}

/* ---- The host ---- */

FIXTURE_SETUP(timer)
{
	struct machine *m = &self->m;
	const char *why = hpkvm_set_up(&m->vm, &m->vcpu, &m->core);

	if (why)
		SKIP(return, "%s", why);
	kvm_vm_free(m->vm);
	ASSERT_EQ(0, hpkvm_get_attr(KVM_X86_HPKVM_BUS_CYCLES_NS,
				    &m->host_ns));
	m->host_deadline = hpkvm_host_has_deadline();
	m->vm = NULL;
}

FIXTURE_TEARDOWN(timer)
{
	if (self->m.vm)
		kvm_vm_free(self->m.vm);
}

static void make_vm(struct machine *m, uint64_t bus_ns, void *guest)
{
	struct shared *s;

	m->vm = hpkvm_vm_create(1, KVM_HPKVM_F_ALL &
				      kvm_check_cap(KVM_CAP_X86_HPKVM));
	vm_enable_cap(m->vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, bus_ns);
	m->vcpu = vm_vcpu_add(m->vm, 0, guest);
	vcpu_set_cpuid_feature(m->vcpu, X86_FEATURE_TSC_DEADLINE_TIMER);
	vm_install_exception_handler(m->vm, VECTOR, guest_handler);
	s = addr_gva2hva(m->vm, (vm_vaddr_t)&shared);
	s->nr = hpkvm_count(NR_TIMERS);
	s->bus_ns = bus_ns;
	TEST_ASSERT(!hpkvm_bind(m->vcpu, m->core, NULL), "Can't bind");
}

static void run_to(struct kvm_vcpu *vcpu, uint64_t stage)
{
	struct ucall uc;

	vcpu_run(vcpu);
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_ASSERT_EQ(uc.cmd, UCALL_SYNC);
	TEST_ASSERT_EQ(uc.args[1], stage);
}

static bool timer_is(struct kvm_vcpu *vcpu, uint32_t timer, uint32_t reason)
{
	struct kvm_hpkvm_state state = hpkvm_state(vcpu);

	if (state.mode == KVM_HPKVM_MODE_PASSTHROUGH && state.timer == timer &&
	    state.timer_reason == reason)
		return true;
	fprintf(stderr, "# mode %u, timer %u (want %u), reason %u (want %u)\n",
		state.mode, state.timer, timer, state.timer_reason, reason);
	return false;
}

/* What a deadline in reach costs on this host. */
static bool deadline_is_the_core_s(struct machine *m)
{
	return m->host_deadline ?
	       timer_is(m->vcpu, KVM_HPKVM_TIMER_DIRECT,
			KVM_HPKVM_TIMER_REASON_NONE) :
	       timer_is(m->vcpu, KVM_HPKVM_TIMER_INTERCEPTED,
			KVM_HPKVM_TIMER_REASON_NO_DEADLINE);
}

/* Exits for each timer, in percent; the host may have had something to do. */
static uint64_t exits_per_timer(struct machine *m)
{
	uint64_t before;

	run_to(m->vcpu, 0);
	before = hpkvm_vcpu_stat(m->vcpu, "exits");
	run_to(m->vcpu, 1);
	return (hpkvm_vcpu_stat(m->vcpu, "exits") - before) * 100 /
	       hpkvm_count(NR_TIMERS);
}

TEST_F(timer, attributes)
{
	struct machine *m = &self->m;
	uint64_t value;

	EXPECT_EQ(this_cpu_has(X86_FEATURE_TSC_DEADLINE_TIMER),
		  m->host_deadline);
	EXPECT_EQ(ENXIO, hpkvm_get_attr(KVM_X86_HPKVM_DEADLINE + 1, &value));
	EXPECT_EQ(ENXIO, hpkvm_get_attr(~0ull, &value));
}

TEST_F(timer, count_at_the_host_s_rate)
{
	struct machine *m = &self->m;
	uint64_t exits;

	if (!m->host_ns && !m->host_deadline)
		SKIP(return, "the host's timer has no rate in whole nanoseconds");
	make_vm(m, m->host_ns ?: 1, guest_counts);
	exits = exits_per_timer(m);
	/* A host with TSC-deadline mode need not know: what it says is so. */
	if (!m->host_ns && hpkvm_state(m->vcpu).timer != KVM_HPKVM_TIMER_DIRECT) {
		EXPECT_LE(100, exits);
		EXPECT_TRUE(timer_is(m->vcpu, KVM_HPKVM_TIMER_EMULATED,
				     KVM_HPKVM_TIMER_REASON_RATE));
		return;
	}
	EXPECT_GT(50, exits);
	EXPECT_TRUE(timer_is(m->vcpu, KVM_HPKVM_TIMER_DIRECT,
			     KVM_HPKVM_TIMER_REASON_NONE));
}

TEST_F(timer, count_at_another_rate)
{
	struct machine *m = &self->m;

	/* None counts at 143 MHz. */
	make_vm(m, 7, guest_counts);
	EXPECT_LE(100, exits_per_timer(m));
	EXPECT_TRUE(timer_is(m->vcpu, KVM_HPKVM_TIMER_EMULATED,
			     KVM_HPKVM_TIMER_REASON_RATE));
}

TEST_F(timer, deadline)
{
	struct machine *m = &self->m;

	make_vm(m, 1, guest_deadlines);
	/* Without the mode one to arm it, and none to take it. */
	EXPECT_GT(m->host_deadline ? 50 : 150, exits_per_timer(m));
	EXPECT_TRUE(deadline_is_the_core_s(m));
}

TEST_F(timer, deadline_reads_back)
{
	struct machine *m = &self->m;
	struct kvm_lapic_state lapic;

	make_vm(m, 1, guest_reads_back);
	run_to(m->vcpu, 0);
	EXPECT_TRUE(deadline_is_the_core_s(m));
	/* To KVM's timer and back. */
	vcpu_ioctl(m->vcpu, KVM_GET_LAPIC, &lapic);
	run_to(m->vcpu, 1);
	run_to(m->vcpu, 2);
	EXPECT_TRUE(m->host_deadline ? deadline_is_the_core_s(m) :
		    timer_is(m->vcpu, KVM_HPKVM_TIMER_EMULATED,
			     KVM_HPKVM_TIMER_REASON_FAR));
	run_to(m->vcpu, 3);
	EXPECT_TRUE(deadline_is_the_core_s(m));
}

TEST_F(timer, deadline_follows_the_tsc)
{
	struct machine *m = &self->m;

	make_vm(m, 1, guest_sets_tsc);
	run_to(m->vcpu, 0);
	EXPECT_TRUE(timer_is(m->vcpu, KVM_HPKVM_TIMER_INTERCEPTED,
			     m->host_deadline ?
			     KVM_HPKVM_TIMER_REASON_TSC :
			     KVM_HPKVM_TIMER_REASON_NO_DEADLINE));
	run_to(m->vcpu, 1);
}

TEST_F(timer, period_is_the_last)
{
	struct machine *m = &self->m;
	struct kvm_lapic_state lapic;

	make_vm(m, m->host_ns ?: 1, guest_stops_periods);
	run_to(m->vcpu, 0);
	/* KVM's timer has it then, until the period is over. */
	vcpu_ioctl(m->vcpu, KVM_GET_LAPIC, &lapic);
	run_to(m->vcpu, 1);
}

TEST_F(timer, period_is_not_put_off)
{
	struct machine *m = &self->m;
	struct kvm_lapic_state lapic;
	int i;

	make_vm(m, m->host_ns ?: 1, guest_takes_periods);
	for (i = 0; i < NR_STEPS; i++) {
		run_to(m->vcpu, 0);
		/* KVM takes the timer, and would give it back at once. */
		vcpu_ioctl(m->vcpu, KVM_GET_LAPIC, &lapic);
	}
	run_to(m->vcpu, 1);
}

TEST_F(timer, divider_is_the_guest_s)
{
	struct machine *m = &self->m;

	make_vm(m, m->host_ns ?: 1, guest_divides);
	run_to(m->vcpu, 0);
}

TEST_HARNESS_MAIN
