// SPDX-License-Identifier: GPL-2.0-only
/*
 * Interrupts of a guest on dedicated cores: each one that the guest causes
 * arrives once and only once, and in LAPIC passthrough without an exit.
 *
 * Every test runs with the same guest: under stock KVM's LAPIC ("emulated"),
 * which shows that the guest is right and needs only /dev/kvm; bound to cores
 * ("passthrough"); and bound to cores with all but the base feature off
 * ("irq_only"), where HLT demotes.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <sys/mman.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define TIMER_VECTOR	0x61
#define SELF_VECTOR	0x52
#define TIMER_IRR	(APIC_IRR + TIMER_VECTOR / 32 * 0x10)
#define IPI_VECTOR	0x83	/* + vCPU number */
#define LEVEL_VECTOR	0xf1	/* of the host vector's class */
#define LEVEL_GSI	20	/* the IOAPIC's only */
#define HOST_VECTOR	0xf5	/* the host's own on a leased core */

/* See hpkvm_count(). */
#define NR_IRQS		1000
#define NR_LEVEL_IRQS	5000
#define NR_KICKS	5000
#define NR_SMIS		300
#define KICK_JITTER	2000	/* cycles */
#define TIMER_US	200
#define UNSERVED_MS	100
#define NR_SAVES	200
#define SAVED_MS	2	/* until a timer expires that is saved all the time */
#define CALL_PAUSE_US	200	/* at most, between two calls of the host's */
#define HELD_US		500	/* long enough for some */
#define NR_VCPUS	2

#define SMRAM_SLOT	1
#define SMRAM_GPA	0x1000000
#define SMRAM_SIZE	0x10000
#define SMI_ENTRY	0x8000	/* Intel SDM vol. 3, "SMRAM" */

#define LVTT_MODES	(APIC_LVT_TIMER_PERIODIC | APIC_LVT_TIMER_TSCDEADLINE)

#define TDCR_DIV_1	0xb

/* Longer than any interrupt takes on a slow emulated host. */
#define WAIT_SECONDS	60

/* How often this run does what; the guest's copy is the host's. */
static struct {
	int irqs;
	int level_irqs;
	int kicks;
	int smis;
	uint64_t bus_ns;	/* that the LAPIC timer takes for a count */
} count;

static uint64_t hits[256];
static uint64_t vcpus_ready;
static uint64_t asked;
static uint64_t done;

struct machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	uint32_t cores[NR_VCPUS];
	bool passthrough;
	bool all_features;
};

FIXTURE(smoke) {
	struct machine m;
};

FIXTURE_VARIANT(smoke) {
	uint32_t features;
};

FIXTURE_VARIANT_ADD(smoke, emulated) {
	.features = 0,
};

FIXTURE_VARIANT_ADD(smoke, passthrough) {
	.features = KVM_HPKVM_F_ALL,
};

FIXTURE_VARIANT_ADD(smoke, irq_only) {
	.features = KVM_HPKVM_F_DIRECT_IRQ,
};

static uint32_t *reg_of(struct kvm_lapic_state *lapic, unsigned int reg)
{
	return (uint32_t *)(lapic->regs + reg);
}

static void guest_irq_handler(struct ex_regs *regs)
{
	/* Each vector arrives at one vCPU only: no atomic increment needed. */
	WRITE_ONCE(hits[regs->vector], hits[regs->vector] + 1);
	x2apic_write_reg(APIC_EOI, 0);
}

FIXTURE_SETUP(smoke)
{
	struct machine *m = &self->m;
	uint32_t features = 0;
	int i;

	if (variant->features) {
		if (!hpkvm_supported())
			SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
		if (hpkvm_find_cores(m->cores, NR_VCPUS) < NR_VCPUS)
			SKIP(return, "the host can't lease %d CPUs", NR_VCPUS);
		features = kvm_check_cap(KVM_CAP_X86_HPKVM) & variant->features;
	}

	m->passthrough = features;
	m->all_features = features == KVM_HPKVM_F_ALL;
	m->vm = vm_create(NR_VCPUS);
	count.irqs = hpkvm_count(NR_IRQS);
	count.level_irqs = hpkvm_count(NR_LEVEL_IRQS);
	count.kicks = hpkvm_count(NR_KICKS);
	count.smis = hpkvm_count(NR_SMIS);
	count.bus_ns = hpkvm_bus_cycles_ns();
	sync_global_to_guest(m->vm, count);
	if (features)
		vm_enable_cap(m->vm, KVM_CAP_X86_HPKVM, features);
	vm_enable_cap(m->vm, KVM_CAP_X86_APIC_BUS_CYCLES_NS, count.bus_ns);
	for (i = 0; i < NR_VCPUS; i++) {
		m->vcpus[i] = vm_vcpu_add(m->vm, i, NULL);
		vcpu_set_cpuid_feature(m->vcpus[i],
				       X86_FEATURE_TSC_DEADLINE_TIMER);
		vm_install_exception_handler(m->vm, IPI_VECTOR + i,
					     guest_irq_handler);
	}
	vm_install_exception_handler(m->vm, TIMER_VECTOR, guest_irq_handler);
	vm_install_exception_handler(m->vm, SELF_VECTOR, guest_irq_handler);
	vm_install_exception_handler(m->vm, LEVEL_VECTOR, guest_irq_handler);
	vm_install_exception_handler(m->vm, HOST_VECTOR, guest_irq_handler);
}

FIXTURE_TEARDOWN(smoke)
{
	kvm_vm_free(self->m.vm);
}

static void guest_init(void)
{
	x2apic_enable();
	x2apic_write_reg(APIC_LVT0, APIC_LVT_MASKED);
	x2apic_write_reg(APIC_TDCR, TDCR_DIV_1);
}

static uint64_t guest_time_limit(void)
{
	return rdtsc() + WAIT_SECONDS * 1000ull * guest_tsc_khz;
}

/* Wait with interrupts on for hit number @want; one more is an error, too. */
static void guest_wait(uint8_t vector, uint64_t want)
{
	uint64_t end = guest_time_limit();

	asm volatile("sti");
	while (READ_ONCE(hits[vector]) < want) {
		if (rdtsc() > end)
			break;
		cpu_relax();
	}
	asm volatile("cli");
	__GUEST_ASSERT(hits[vector] == want,
		       "vector %x: %lu received, %lu sent",
		       vector, hits[vector], want);
}

/* The same asleep: one that is lost ends in the test's time limit. */
static void guest_halt(uint8_t vector, uint64_t want)
{
	while (READ_ONCE(hits[vector]) < want)
		asm volatile("sti; hlt; cli" ::: "memory");
	__GUEST_ASSERT(hits[vector] == want,
		       "vector %x: %lu received, %lu sent",
		       vector, hits[vector], want);
}

/* Asleep and awake by turns. */
static void guest_take(uint8_t vector, uint64_t want)
{
	if (want & 1)
		guest_halt(vector, want);
	else
		guest_wait(vector, want);
}

static void guest_listen_for_10_ms(void)
{
	uint64_t end = rdtsc() + 10ull * guest_tsc_khz;

	asm volatile("sti");
	while (rdtsc() < end)
		cpu_relax();
	asm volatile("cli");
}

/* Late doubles show in a while of doing nothing. */
static void guest_finish(uint8_t vector)
{
	guest_listen_for_10_ms();
	__GUEST_ASSERT(hits[vector] == count.irqs,
		       "vector %x: %lu received, %d sent",
		       vector, hits[vector], count.irqs);
	GUEST_DONE();
}

static void guest_count(uint32_t us)
{
	x2apic_write_reg(APIC_TMICT, us * 1000ull / count.bus_ns);
}

static void guest_oneshot(void)
{
	int i;

	guest_init();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	GUEST_SYNC(0);
	for (i = 1; i <= count.irqs; i++) {
		guest_count(TIMER_US);
		guest_take(TIMER_VECTOR, i);
	}
	guest_finish(TIMER_VECTOR);
}

static void guest_deadline(void)
{
	uint64_t delta;
	int i;

	guest_init();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR);
	delta = TIMER_US * (uint64_t)guest_tsc_khz / 1000;
	GUEST_SYNC(0);
	for (i = 1; i <= count.irqs; i++) {
		/* Every tenth is in the past already and fires at once. */
		wrmsr(MSR_IA32_TSC_DEADLINE, i % 10 ? rdtsc() + delta : 1);
		guest_take(TIMER_VECTOR, i);
	}
	guest_finish(TIMER_VECTOR);
}

static void guest_self_ipi(void)
{
	int i;

	guest_init();
	GUEST_SYNC(0);
	for (i = 1; i <= count.irqs; i++) {
		if (i % 3)
			x2apic_write_reg(APIC_SELF_IPI, SELF_VECTOR);
		else
			x2apic_write_reg(APIC_ICR,
					 APIC_DEST_SELF | APIC_INT_ASSERT |
					 SELF_VECTOR);
		guest_wait(SELF_VECTOR, i);
	}
	guest_finish(SELF_VECTOR);
}

/* Send to the other vCPU; @i picks physical or cluster-logical mode. */
static void guest_send(uint32_t dest, int i)
{
	uint64_t icr = APIC_INT_ASSERT | (IPI_VECTOR + dest);

	if (i & 1)
		icr |= APIC_DEST_LOGICAL | (BIT_ULL(dest) << 32);
	else
		icr |= (uint64_t)dest << 32;
	x2apic_write_reg(APIC_ICR, icr);
}

/* vCPU 0 sends and waits for the answer, vCPU 1 waits and answers. */
static void guest_ping_pong(uint32_t me)
{
	int i;

	guest_init();
	__atomic_add_fetch(&vcpus_ready, 1, __ATOMIC_SEQ_CST);
	GUEST_SYNC(0);
	while (READ_ONCE(vcpus_ready) < NR_VCPUS)
		cpu_relax();

	for (i = 1; i <= count.irqs; i++) {
		if (!me)
			guest_send(1, i);
		if (i & 2)
			guest_halt(IPI_VECTOR + me, i);
		else
			guest_wait(IPI_VECTOR + me, i);
		if (me)
			guest_send(0, i);
	}
	guest_finish(IPI_VECTOR + me);
}

/* The line stays up: each EOI, which exits, brings the next. */
static void guest_level(void)
{
	uint64_t end = 0, seen = 0, now;

	guest_init();
	GUEST_SYNC(0);
	asm volatile("sti");
	while (seen < count.level_irqs) {
		now = READ_ONCE(hits[LEVEL_VECTOR]);
		if (now != seen || !end)
			end = guest_time_limit();
		__GUEST_ASSERT(rdtsc() < end, "no more after %lu", now);
		seen = now;
		cpu_relax();
	}
	GUEST_DONE();
}

static void guest_spin(uint64_t cycles)
{
	uint64_t end = rdtsc() + cycles;

	while (rdtsc() < end)
		cpu_relax();
}

static uint64_t guest_cycles(uint64_t us)
{
	return us * guest_tsc_khz / 1000;
}

/* It waits in the IRR for a while, in which the host sends itself the same. */
static void guest_take_host_vector(bool send)
{
	int i;

	guest_init();
	GUEST_SYNC(0);
	for (i = 1; i <= count.irqs; i++) {
		WRITE_ONCE(asked, i);
		if (send)
			x2apic_write_reg(APIC_SELF_IPI, HOST_VECTOR);
		guest_spin(guest_cycles(HELD_US));
		guest_wait(HOST_VECTOR, i);
	}
	guest_finish(HOST_VECTOR);
}

static void guest_host_vector(void)
{
	guest_take_host_vector(true);
}

static void guest_host_vector_taker(void)
{
	guest_take_host_vector(false);
}

/* What the other vCPU has asked for, at any moment within @cycles. */
static void guest_await_asked(uint64_t i, uint64_t *seed, uint64_t cycles)
{
	while (READ_ONCE(asked) < i)
		cpu_relax();
	guest_spin(hpkvm_random(seed) % cycles);
}

static void guest_host_vector_sender(void)
{
	uint64_t seed = 1;
	int i;

	guest_init();
	GUEST_SYNC(0);
	for (i = 1; i <= count.irqs; i++) {
		guest_await_asked(i, &seed, guest_cycles(HELD_US));
		x2apic_write_reg(APIC_ICR, APIC_INT_ASSERT | HOST_VECTOR);
	}
	GUEST_DONE();
}

/* The VMM does something to the local APIC at each sync. */
static void guest_oneshot_synced(void)
{
	int i;

	guest_init();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR);
	for (i = 1; ; i++) {
		GUEST_SYNC(i);
		guest_count(TIMER_US);
		guest_wait(TIMER_VECTOR, i);
	}
}

/* As Linux waits for a contended lock: with IF=0, so that only a kick helps. */
static void guest_sleeper(void)
{
	uint64_t seed = 1;
	int i;

	guest_init();
	GUEST_SYNC(0);
	for (i = 1; i <= count.kicks; i++) {
		WRITE_ONCE(asked, i);
		guest_spin(hpkvm_random(&seed) % KICK_JITTER);
		asm volatile("hlt" ::: "memory");
	}
	GUEST_DONE();
}

static void guest_kicker(void)
{
	uint64_t seed = 2;
	int i;

	guest_init();
	GUEST_SYNC(0);
	for (i = 1; i <= count.kicks; i++) {
		guest_await_asked(i, &seed, KICK_JITTER);
		kvm_hypercall(KVM_HC_KICK_CPU, 0, 1, 0, 0);
	}
	GUEST_DONE();
}

/*
 * Runs in SMM, which is 16-bit code at first.  Exits, and counts in SMRAM's first
 * word.
 */
static const uint8_t smi_handler[] = {
	0x0f, 0xa2,			/* cpuid */
	0x2e, 0xff, 0x06, 0x00, 0x00,	/* incw %cs:0 */
	0x0f, 0xaa,			/* rsm */
};

/* Awake and asleep, in and out of the handler, until the sender is done. */
static void guest_smi_taker(void)
{
	uint64_t delta;
	int i;

	guest_init();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR);
	delta = guest_cycles(TIMER_US);
	GUEST_SYNC(0);
	for (i = 1; !READ_ONCE(done); i++) {
		WRITE_ONCE(asked, i);
		wrmsr(MSR_IA32_TSC_DEADLINE, rdtsc() + delta);
		guest_take(TIMER_VECTOR, i);
	}
	guest_listen_for_10_ms();
	GUEST_ASSERT_EQ(hits[TIMER_VECTOR], i - 1);
	GUEST_DONE();
}

/* The next one when the taker got on, at any moment of what it does. */
static void guest_smi_sender(void)
{
	uint16_t *taken = (uint16_t *)SMRAM_GPA;
	uint64_t seed = 1, seen = 0, end;
	int i;

	guest_init();
	GUEST_SYNC(0);
	for (i = 1; i <= count.smis; i++) {
		guest_await_asked(seen + 1, &seed, guest_cycles(2 * TIMER_US));
		seen = READ_ONCE(asked);
		x2apic_write_reg(APIC_ICR, APIC_INT_ASSERT | APIC_DM_SMI);
		end = guest_time_limit();
		while (READ_ONCE(*taken) < i && rdtsc() < end)
			cpu_relax();
		__GUEST_ASSERT(READ_ONCE(*taken) == i, "%u taken, %d sent",
			       READ_ONCE(*taken), i);
	}
	WRITE_ONCE(done, 1);
	guest_listen_for_10_ms();
	GUEST_ASSERT_EQ(READ_ONCE(*taken), count.smis);
	GUEST_DONE();
}

/* The loop has one INT n: that a second one is next would hide a lost one. */
static void guest_software_interrupts(void)
{
	uint64_t i, loops = 20 * count.irqs;

	guest_init();
	GUEST_SYNC(0);
	for (i = 1; i <= loops; i++) {
		asm volatile("int %0" : : "i" (SELF_VECTOR) : "memory");
		GUEST_ASSERT_EQ(READ_ONCE(hits[SELF_VECTOR]), i);
	}
	GUEST_DONE();
}

/* Interrupts that it never takes. */
static void guest_pending(void)
{
	int vector;

	guest_init();
	for (vector = 0x20; vector < 0x100; vector++)
		x2apic_write_reg(APIC_SELF_IPI, vector);
	GUEST_SYNC(0);
	for (;;)
		cpu_relax();
}

static void guest_send_init(void)
{
	guest_init();
	x2apic_write_reg(APIC_ICR, 1ull << 32 | APIC_INT_ASSERT | APIC_DM_INIT);
	GUEST_DONE();
}

enum disturbance {
	NOTHING,
	GET_LAPIC,
	GET_AND_SET_LAPIC,
};

/*
 * Must a timer that counts be the core's?  A host that has no rate in whole
 * nanoseconds need not give it.
 */
static bool counts_directly(struct kvm_hpkvm_state *state)
{
	uint64_t ns = 0;

	hpkvm_get_attr(KVM_X86_HPKVM_BUS_CYCLES_NS, &ns);
	return ns || state->timer == KVM_HPKVM_TIMER_DIRECT;
}

/* One vCPU's thread, and how the other threads disturb it. */
struct runner {
	pthread_t thread;
	struct kvm_vcpu *vcpu;
	uint32_t core;
	bool passthrough;
	enum disturbance disturbance;
	uint64_t disturbed;
	uint64_t exits;
	bool counts_directly;
	bool done;
};

static void wake(int sig)
{
}

static void catch_wake(void)
{
	struct sigaction act = { .sa_handler = wake };

	/* No SA_RESTART: KVM_RUN must return. */
	TEST_ASSERT(!sigaction(SIGUSR1, &act, NULL), "Can't catch SIGUSR1");
}

/*
 * What a VMM does to a stopped vCPU.  With KVM_SET_LAPIC, an interrupt that
 * arrives between the two calls is lost by KVM's rules: the caller sees to it
 * that none can.
 */
static void disturb(struct runner *r)
{
	struct kvm_lapic_state lapic;

	if (r->disturbance == NOTHING)
		return;
	vcpu_ioctl(r->vcpu, KVM_GET_LAPIC, &lapic);
	if (r->disturbance == GET_AND_SET_LAPIC)
		vcpu_ioctl(r->vcpu, KVM_SET_LAPIC, &lapic);
	r->disturbed++;
}

static void expect_passthrough(struct runner *r)
{
	struct kvm_hpkvm_state state;

	if (!r->passthrough)
		return;
	state = hpkvm_state(r->vcpu);
	TEST_ASSERT(state.mode == KVM_HPKVM_MODE_PASSTHROUGH,
		    "vCPU %u: mode %u, reason %u", r->vcpu->id, state.mode,
		    state.reason);
	r->counts_directly = counts_directly(&state);
}

static void bind_runner(struct runner *r)
{
	if (r->passthrough)
		TEST_ASSERT(!hpkvm_bind(r->vcpu, r->core, NULL),
			    "Can't bind to CPU %u", r->core);
}

static void unbind_runner(struct runner *r)
{
	if (r->passthrough)
		TEST_ASSERT(!hpkvm_unbind(r->vcpu), "Can't unbind");
}

static void *run_vcpu(void *arg)
{
	struct runner *r = arg;
	struct ucall uc;
	uint64_t first_exits = 0;

	bind_runner(r);
	for (;;) {
		if (__vcpu_run(r->vcpu)) {
			TEST_ASSERT(errno == EINTR, "KVM_RUN: %d", errno);
			disturb(r);
			continue;
		}
		TEST_ASSERT_KVM_EXIT_REASON(r->vcpu, KVM_EXIT_IO);
		switch (get_ucall(r->vcpu, &uc)) {
		case UCALL_SYNC:
			expect_passthrough(r);
			first_exits = hpkvm_vcpu_stat(r->vcpu, "exits");
			continue;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
			continue;
		case UCALL_DONE:
			r->exits = hpkvm_vcpu_stat(r->vcpu, "exits") -
				   first_exits;
			if (r->disturbance == NOTHING)
				expect_passthrough(r);
			unbind_runner(r);
			WRITE_ONCE(r->done, true);
			return NULL;
		default:
			TEST_FAIL("Unknown ucall %lu", uc.cmd);
		}
	}
}

/* Its guest goes on after a first sync, until a signal. */
static void *run_until_signal(void *arg)
{
	struct runner *r = arg;
	struct ucall uc;

	bind_runner(r);
	vcpu_run(r->vcpu);
	TEST_ASSERT_EQ(UCALL_SYNC, get_ucall(r->vcpu, &uc));
	expect_passthrough(r);
	WRITE_ONCE(r->done, true);
	TEST_ASSERT(__vcpu_run(r->vcpu) && errno == EINTR, "KVM_RUN: %d", errno);
	unbind_runner(r);
	return NULL;
}

static void start(struct runner *r, struct kvm_vcpu *vcpu, uint32_t core,
		  bool passthrough, enum disturbance disturbance)
{
	*r = (struct runner) {
		.vcpu = vcpu,
		.core = core,
		.passthrough = passthrough,
		.disturbance = disturbance,
	};
	TEST_ASSERT(!pthread_create(&r->thread, NULL, run_vcpu, r),
		    "Can't create a thread");
}

/* Wait for the end, interrupting KVM_RUN at random moments meanwhile. */
static void finish(struct runner *r)
{
	while (!READ_ONCE(r->done)) {
		usleep(random() % 3000);
		if (r->disturbance != NOTHING && !READ_ONCE(r->done))
			pthread_kill(r->thread, SIGUSR1);
	}
	pthread_join(r->thread, NULL);
}

/*
 * Run @guest on vCPU 0 alone, undisturbed or not.  @writes: how many of the
 * guest cost an exit in passthrough, too.
 */
static void run_alone(struct machine *m, void *guest,
		      enum disturbance disturbance, unsigned int writes)
{
	uint64_t *hits_hva = addr_gva2hva(m->vm, (vm_vaddr_t)hits);
	struct kvm_hpkvm_state state;
	uint64_t sum = 0;
	struct runner r;
	int i;

	catch_wake();
	vcpu_arch_set_entry_point(m->vcpus[0], guest);
	start(&r, m->vcpus[0], m->cores[0], m->passthrough, disturbance);
	finish(&r);

	for (i = 0; i < ARRAY_SIZE(hits); i++)
		sum += hits_hva[i];
	TEST_ASSERT_EQ(sum, count.irqs);
	printf("# exits %lu, disturbed %lu times\n", r.exits, r.disturbed);
	if (disturbance != NOTHING)
		TEST_ASSERT(r.disturbed, "Nothing disturbed the guest");

	if (!m->passthrough)
		return;
	state = hpkvm_state(m->vcpus[0]);
	if (disturbance == NOTHING) {
		/* Stock KVM takes more than one exit for each interrupt. */
		if (m->all_features && r.counts_directly)
			TEST_ASSERT(r.exits < writes + count.irqs / 4,
				    "%lu exits for %d interrupts", r.exits,
				    count.irqs);
	} else {
		TEST_ASSERT(state.demotions > 1, "%llu demotions",
			    state.demotions);
	}
}

TEST_F_TIMEOUT(smoke, oneshot, 180 * PATIENCE)
{
	run_alone(&self->m, guest_oneshot, NOTHING, 0);
}

TEST_F_TIMEOUT(smoke, deadline, 180 * PATIENCE)
{
	run_alone(&self->m, guest_deadline, NOTHING,
		  hpkvm_host_has_deadline() ? 0 : count.irqs);
}

TEST_F_TIMEOUT(smoke, self_ipi, 180 * PATIENCE)
{
	run_alone(&self->m, guest_self_ipi, NOTHING, count.irqs / 3);
}

TEST_F_TIMEOUT(smoke, oneshot_get_lapic, 180 * PATIENCE)
{
	run_alone(&self->m, guest_oneshot, GET_LAPIC, 0);
}

TEST_F_TIMEOUT(smoke, deadline_get_lapic, 180 * PATIENCE)
{
	run_alone(&self->m, guest_deadline, GET_LAPIC, 0);
}

TEST_F_TIMEOUT(smoke, self_ipi_get_lapic, 180 * PATIENCE)
{
	run_alone(&self->m, guest_self_ipi, GET_LAPIC, 0);
}

/*
 * Not the one-shot timer: KVM_SET_LAPIC of one that has expired makes it fire
 * again, in stock KVM, too.
 */
TEST_F_TIMEOUT(smoke, deadline_set_lapic, 180 * PATIENCE)
{
	run_alone(&self->m, guest_deadline, GET_AND_SET_LAPIC, 0);
}

TEST_F_TIMEOUT(smoke, self_ipi_set_lapic, 180 * PATIENCE)
{
	run_alone(&self->m, guest_self_ipi, GET_AND_SET_LAPIC, 0);
}

static void run_ping_pong(struct machine *m, enum disturbance disturbance)
{
	uint64_t *hits_hva = addr_gva2hva(m->vm, (vm_vaddr_t)hits);
	struct runner r[NR_VCPUS];
	int i;

	catch_wake();
	for (i = 0; i < NR_VCPUS; i++) {
		vcpu_arch_set_entry_point(m->vcpus[i], guest_ping_pong);
		vcpu_args_set(m->vcpus[i], 1, i);
		start(&r[i], m->vcpus[i], m->cores[i], m->passthrough,
		      disturbance);
	}
	/* Both, so that sender and target are out of the guest at times. */
	while (disturbance != NOTHING && !READ_ONCE(r[0].done) &&
	       !READ_ONCE(r[1].done)) {
		usleep(random() % 3000);
		i = random() % NR_VCPUS;
		pthread_kill(r[i].thread, SIGUSR1);
	}
	for (i = 0; i < NR_VCPUS; i++) {
		finish(&r[i]);
		TEST_ASSERT_EQ(hits_hva[IPI_VECTOR + i], count.irqs);
		printf("# vCPU %d: exits %lu, disturbed %lu times\n", i,
		       r[i].exits, r[i].disturbed);
		if (m->all_features && disturbance == NOTHING)
			TEST_ASSERT(r[i].exits < count.irqs + count.irqs / 4,
				    "%lu exits for %d IPIs sent",
				    r[i].exits, count.irqs);
	}
}

TEST_F_TIMEOUT(smoke, ping_pong, 180 * PATIENCE)
{
	run_ping_pong(&self->m, NOTHING);
}

TEST_F_TIMEOUT(smoke, ping_pong_get_lapic, 180 * PATIENCE)
{
	run_ping_pong(&self->m, GET_LAPIC);
}

/*
 * Another thread asks, while the vCPU waits outside KVM_RUN: the state has to
 * come from a core that the asking thread doesn't run on.
 */
TEST_F_TIMEOUT(smoke, get_lapic_from_elsewhere, 60 * PATIENCE)
{
	struct machine *m = &self->m;
	struct kvm_lapic_state lapic;
	struct runner r;

	vcpu_arch_set_entry_point(m->vcpus[0], guest_self_ipi);
	start(&r, m->vcpus[0], m->cores[0], m->passthrough,
	      NOTHING);
	pthread_join(r.thread, NULL);

	vcpu_ioctl(m->vcpus[0], KVM_GET_LAPIC, &lapic);
	EXPECT_EQ(APIC_SPIV_APIC_ENABLED,
		  *reg_of(&lapic, APIC_SPIV) & APIC_SPIV_APIC_ENABLED);
	EXPECT_EQ(0, *reg_of(&lapic, APIC_TASKPRI));
	EXPECT_EQ(TDCR_DIV_1, *reg_of(&lapic, APIC_TDCR));
	EXPECT_EQ(0, *reg_of(&lapic, APIC_IRR + 0x20));
}

static void guest_periodic_unserved(void)
{
	guest_init();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR);
	guest_count(UNSERVED_MS * 1000);
	GUEST_SYNC(0);
	GUEST_DONE();
}

/*
 * Saving a vCPU takes several ioctls, and one of the first demotes it: what its
 * timer does until KVM_GET_LAPIC must be in what that returns.
 */
TEST_F_TIMEOUT(smoke, timer_between_ioctls, 60 * PATIENCE)
{
	struct machine *m = &self->m;
	struct kvm_vcpu *vcpu = m->vcpus[0];
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;

	vcpu_arch_set_entry_point(vcpu, guest_periodic_unserved);
	if (m->passthrough)
		TEST_ASSERT(!hpkvm_bind(vcpu, m->cores[0], NULL), "Can't bind");
	vcpu_run(vcpu);
	vcpu_events_get(vcpu, &events);
	usleep(UNSERVED_MS * 1500);
	vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
	/* Stock KVM shows it after the next KVM_RUN only. */
	if (m->passthrough)
		EXPECT_EQ(BIT(TIMER_VECTOR % 32), *reg_of(&lapic, TIMER_IRR));
}

/* A periodic timer has SAVED_MS to go, and its callback runs on this CPU. */
static void start_period(struct kvm_vcpu *vcpu, struct kvm_lapic_state *lapic)
{
	uint32_t left = SAVED_MS * 1000000 / count.bus_ns;

	vcpu_ioctl(vcpu, KVM_GET_LAPIC, lapic);
	*reg_of(lapic, TIMER_IRR) = 0;
	*reg_of(lapic, APIC_SPIV) = APIC_SPIV_APIC_ENABLED | 0xff;
	*reg_of(lapic, APIC_LVTT) = APIC_LVT_TIMER_PERIODIC | TIMER_VECTOR;
	*reg_of(lapic, APIC_TDCR) = TDCR_DIV_1;
	*reg_of(lapic, APIC_TMICT) = left * 100;
	*reg_of(lapic, APIC_TMCCT) = left;
	vcpu_ioctl(vcpu, KVM_SET_LAPIC, lapic);
}

/* Save it until it shows: is there a time when nobody would know of it? */
static bool is_lost_when_saved(struct kvm_vcpu *vcpu,
			       struct kvm_lapic_state *lapic)
{
	uint32_t left;

	do {
		left = *reg_of(lapic, APIC_TMCCT);
		vcpu_ioctl(vcpu, KVM_GET_LAPIC, lapic);
		if (*reg_of(lapic, TIMER_IRR))
			return false;
	} while (*reg_of(lapic, APIC_TMCCT) &&
		 *reg_of(lapic, APIC_TMCCT) <= left);
	return true;
}

/*
 * Whenever a vCPU is saved, also when KVM's timer is due and its callback has
 * yet to run on another CPU: either there is time left or the interrupt is there.
 */
TEST_F_TIMEOUT(smoke, timer_at_its_expiry, 60 * PATIENCE)
{
	struct kvm_vcpu *vcpu = self->m.vcpus[0];
	struct kvm_lapic_state lapic;
	int i, lost = 0;

	for (i = 0; i < NR_SAVES; i++) {
		hpkvm_pin(0);
		start_period(vcpu, &lapic);
		hpkvm_pin(1);
		lost += is_lost_when_saved(vcpu, &lapic);
	}
	printf("# saved without its interrupt and without time left: %d of %d\n",
	       lost, NR_SAVES);
	/* Stock KVM shows it after the next KVM_RUN only. */
	if (self->m.passthrough)
		TEST_ASSERT_EQ(0, lost);
}

static void guest_far_deadlines(void)
{
	guest_init();
	x2apic_write_reg(APIC_LVTT, APIC_LVT_TIMER_TSCDEADLINE | TIMER_VECTOR);
	GUEST_SYNC(0);
	wrmsr(MSR_IA32_TSC_DEADLINE, 1);
	guest_wait(TIMER_VECTOR, 1);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), 0);

	GUEST_SYNC(1);
	wrmsr(MSR_IA32_TSC_DEADLINE, ~0ull);
	guest_listen_for_10_ms();
	GUEST_ASSERT_EQ(hits[TIMER_VECTOR], 1);
	GUEST_ASSERT_EQ(rdmsr(MSR_IA32_TSC_DEADLINE), ~0ull);
	GUEST_DONE();
}

/*
 * Before the host's TSC began, for a guest whose own is ahead of it; and after
 * it ends, for one that is behind.
 */
TEST_F_TIMEOUT(smoke, far_deadlines, 60 * PATIENCE)
{
	struct kvm_vcpu *vcpu = self->m.vcpus[0];
	struct ucall uc;

	vcpu_arch_set_entry_point(vcpu, guest_far_deadlines);
	if (self->m.passthrough)
		TEST_ASSERT(!hpkvm_bind(vcpu, self->m.cores[0], NULL),
			    "Can't bind");
	vcpu_run(vcpu);
	TEST_ASSERT_EQ(UCALL_SYNC, get_ucall(vcpu, &uc));
	vcpu_set_msr(vcpu, MSR_IA32_TSC, rdtsc() + BIT_ULL(40));
	vcpu_run(vcpu);
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	vcpu_set_msr(vcpu, MSR_IA32_TSC, 1000000);
	vcpu_run(vcpu);
	if (get_ucall(vcpu, &uc) == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	EXPECT_EQ(UCALL_DONE, get_ucall(vcpu, &uc));
}

static void route_level_line(struct kvm_vm *vm)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	vm_ioctl(vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.ioapic.redirtbl[LEVEL_GSI].bits = 0;
	chip.chip.ioapic.redirtbl[LEVEL_GSI].fields.vector = LEVEL_VECTOR;
	chip.chip.ioapic.redirtbl[LEVEL_GSI].fields.trig_mode = 1;
	vm_ioctl(vm, KVM_SET_IRQCHIP, &chip);
}

static void spin_up_to(unsigned int us)
{
	long ns = random() % (us * 1000);
	struct timespec begin;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	while (timespec_to_ns(timespec_elapsed(begin)) < ns)
		;
}

/*
 * Run @guest on vCPU 0 while its core is called all the time, @other, if any, on
 * vCPU 1, and have the line up if @line.  Returns false, with errno, if there is
 * no way to call.
 */
static bool run_amid_host_calls(struct machine *m, void *guest, void *other,
				bool line)
{
	struct runner r, sender;
	char path[32];
	uint64_t tsc;
	long calls;
	int fd;

	snprintf(path, sizeof(path), "/dev/cpu/%u/msr", m->cores[0]);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return false;

	vcpu_arch_set_entry_point(m->vcpus[0], guest);
	start(&r, m->vcpus[0], m->cores[0], m->passthrough, NOTHING);
	if (other) {
		vcpu_arch_set_entry_point(m->vcpus[1], other);
		start(&sender, m->vcpus[1], m->cores[1], m->passthrough,
		      NOTHING);
	}
	for (calls = 0; !READ_ONCE(r.done); calls++) {
		/* Until the guest has enabled its local APIC it is ignored. */
		if (line)
			kvm_irq_line(m->vm, LEVEL_GSI, 1);
		/* Each is a function call on the core. */
		TEST_ASSERT_EQ(pread(fd, &tsc, sizeof(tsc), MSR_IA32_TSC),
			       sizeof(tsc));
		/*
		 * Calls without a pause let no guest execute anything, on
		 * whatever core: the next one waits before each entry.
		 */
		spin_up_to(CALL_PAUSE_US);
	}
	finish(&r);
	if (other)
		finish(&sender);
	close(fd);
	printf("# %ld calls\n", calls);
	return true;
}

/*
 * The EOI of a level-triggered interrupt exits, and an NMI may come at any step
 * of its handling.  One that took the vector aside at the wrong moment made the
 * EOI vanish, and no interrupt ever reached the guest again.
 */
TEST_F_TIMEOUT(smoke, level_amid_host_calls, 300 * PATIENCE)
{
	route_level_line(self->m.vm);
	if (!run_amid_host_calls(&self->m, guest_level, NULL, true))
		SKIP(return, "the msr device: %s", strerror(errno));
}

/*
 * With each call the host sends its vector to the core, where the guest's own
 * may wait already: the two must not be taken for one.
 */
TEST_F_TIMEOUT(smoke, host_vector_amid_host_calls, 300 * PATIENCE)
{
	if (!run_amid_host_calls(&self->m, guest_host_vector, NULL, false))
		SKIP(return, "the msr device: %s", strerror(errno));
}

TEST_F_TIMEOUT(smoke, host_vector_from_sibling, 300 * PATIENCE)
{
	if (!run_amid_host_calls(&self->m, guest_host_vector_taker,
				 guest_host_vector_sender, false))
		SKIP(return, "the msr device: %s", strerror(errno));
}

/*
 * KVM_SET_LAPIC puts anything into KVM's local APIC.  What is illegal there must
 * not reach the core's: reserved bits would be a fault of the host's, and a
 * timer with another delivery mode its NMI, SMI or INIT.
 */
TEST_F_TIMEOUT(smoke, illegal_lapic_state, 60 * PATIENCE)
{
	struct kvm_vcpu *vcpu = self->m.vcpus[0];
	struct kvm_hpkvm_state state;
	struct kvm_lapic_state lapic;
	uint32_t modes = 0;
	struct ucall uc;
	uint32_t *reg;
	int bit;

	vcpu_arch_set_entry_point(vcpu, guest_oneshot_synced);
	if (self->m.passthrough)
		TEST_ASSERT(!hpkvm_bind(vcpu, self->m.cores[0], NULL),
			    "Can't bind");
	for (bit = 8; bit < 32; bit++) {
		vcpu_run(vcpu);
		if (get_ucall(vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT_EQ(UCALL_SYNC, uc.cmd);
		if (self->m.passthrough) {
			state = hpkvm_state(vcpu);
			TEST_ASSERT_EQ(KVM_HPKVM_MODE_PASSTHROUGH, state.mode);
			/* With an emulated timer KVM delivers what the mode says. */
			if (self->m.all_features && counts_directly(&state))
				modes = APIC_MODE_MASK;
		}

		vcpu_ioctl(vcpu, KVM_GET_LAPIC, &lapic);
		reg = reg_of(&lapic, APIC_TASKPRI);
		*reg = BIT(bit);
		reg = reg_of(&lapic, APIC_LVTT);
		*reg = APIC_LVT_TIMER_ONESHOT | TIMER_VECTOR;
		*reg |= BIT(bit) & ~(APIC_LVT_MASKED | LVTT_MODES |
				     (APIC_MODE_MASK & ~modes));
		/* KVM would fire it once more. */
		*reg_of(&lapic, APIC_TMICT) = 0;
		vcpu_ioctl(vcpu, KVM_SET_LAPIC, &lapic);
	}
}

/* Run both at once, undisturbed. */
static void run_pair(struct machine *m, void *guest0, void *guest1)
{
	struct runner r[NR_VCPUS];
	int i;

	vcpu_arch_set_entry_point(m->vcpus[0], guest0);
	vcpu_arch_set_entry_point(m->vcpus[1], guest1);
	for (i = 0; i < NR_VCPUS; i++)
		start(&r[i], m->vcpus[i], m->cores[i], m->passthrough, NOTHING);
	for (i = 0; i < NR_VCPUS; i++)
		finish(&r[i]);
	printf("# exits %lu and %lu\n", r[0].exits, r[1].exits);
}

/* The page on which a vCPU's interrupts push their frames. */
struct stack_page {
	pthread_t forgetter;
	void *hva;
	bool leave;	/* the thread is to end */
};

static void *forget_stack(void *arg)
{
	struct stack_page *page = arg;
	int exec = 0;

	while (!READ_ONCE(page->leave)) {
		exec ^= PROT_EXEC;
		TEST_ASSERT(!mprotect(page->hva, getpagesize(),
				      PROT_READ | PROT_WRITE | exec),
			    "mprotect");
		usleep(TIMER_US / 2);
	}
	return NULL;
}

/*
 * A change of protection has KVM forget the page: the next interrupt faults on
 * its way to the handler, and KVM queues it again.
 */
static void begin_forgetting(struct stack_page *page, struct kvm_vcpu *vcpu)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	page->hva = addr_gva2hva(vcpu->vm,
				 (regs.rsp - 1) & ~(getpagesize() - 1ull));
	page->leave = false;
	TEST_ASSERT(!pthread_create(&page->forgetter, NULL, forget_stack, page),
		    "Can't create a thread");
}

static void end_forgetting(struct stack_page *page)
{
	WRITE_ONCE(page->leave, true);
	pthread_join(page->forgetter, NULL);
}

/*
 * A software interrupt that is queued again is one, also if the entry that was
 * to inject it is abandoned.  Without NRIPS (kvm_amd.nrips=0) KVM moves RIP
 * before, and back after such an entry.
 */
TEST_F_TIMEOUT(smoke, software_interrupts, 120 * PATIENCE)
{
	struct stack_page page;
	bool ran;

	begin_forgetting(&page, self->m.vcpus[0]);
	ran = run_amid_host_calls(&self->m, guest_software_interrupts, NULL,
				  false);
	end_forgetting(&page);
	if (!ran)
		SKIP(return, "the msr device: %s", strerror(errno));
}

/*
 * Each SMI is handled once, also one for a vCPU that sleeps, and no interrupt is
 * lost on the way into SMM, where the local APIC is KVM's, and out of it.  An SMI
 * can't be taken in an entry that has an interrupt to inject, and so asks for
 * one that exits at once.
 */
TEST_F_TIMEOUT(smoke, smis, 120 * PATIENCE)
{
	struct machine *m = &self->m;
	struct stack_page page;

	if (!kvm_has_cap(KVM_CAP_X86_SMM))
		SKIP(return, "this kernel has no KVM_CAP_X86_SMM");
	vm_userspace_mem_region_add(m->vm, VM_MEM_SRC_ANONYMOUS, SMRAM_GPA,
				    SMRAM_SLOT, SMRAM_SIZE / getpagesize(), 0);
	/* The same for SMM, whose address space has nothing else. */
	vm_set_user_memory_region(m->vm, SMRAM_SLOT | 1 << 16, 0, SMRAM_GPA,
				  SMRAM_SIZE, addr_gpa2hva(m->vm, SMRAM_GPA));
	virt_map(m->vm, SMRAM_GPA, SMRAM_GPA, 1);
	memcpy(addr_gpa2hva(m->vm, SMRAM_GPA + SMI_ENTRY), smi_handler,
	       sizeof(smi_handler));
	vcpu_set_msr(m->vcpus[0], MSR_IA32_SMBASE, SMRAM_GPA);
	begin_forgetting(&page, m->vcpus[0]);
	run_pair(m, guest_smi_taker, guest_smi_sender);
	end_forgetting(&page);
	if (m->passthrough)
		TEST_ASSERT(hpkvm_state(m->vcpus[0]).demotions > count.smis / 4,
			    "SMIs hardly ever met passthrough");
}

/*
 * KVM_HC_KICK_CPU wakes a vCPU up from the HLT that it is in, or else from its
 * next one (Documentation/virt/kvm/x86/hypercalls.rst).
 */
TEST_F_TIMEOUT(smoke, kicks_wake, 120 * PATIENCE)
{
	run_pair(&self->m, guest_kicker, guest_sleeper);
}

/*
 * INIT leaves no interrupt waiting, in whichever local APIC it was: Intel SDM
 * 11.4.7.3.
 */
TEST_F_TIMEOUT(smoke, init_ends_interrupts, 60 * PATIENCE)
{
	struct machine *m = &self->m;
	struct runner r = {
		.vcpu = m->vcpus[1],
		.core = m->cores[1],
		.passthrough = m->passthrough,
	};
	struct kvm_lapic_state lapic;
	struct kvm_mp_state state;
	struct ucall uc;
	int i;

	catch_wake();
	vcpu_arch_set_entry_point(m->vcpus[1], guest_pending);
	TEST_ASSERT(!pthread_create(&r.thread, NULL, run_until_signal, &r),
		    "Can't create a thread");
	while (!READ_ONCE(r.done))
		usleep(1000);
	vcpu_arch_set_entry_point(m->vcpus[0], guest_send_init);
	vcpu_run(m->vcpus[0]);
	EXPECT_EQ(UCALL_DONE, get_ucall(m->vcpus[0], &uc));
	/* For as long as it has not been told the guest waits for a SIPI. */
	usleep(100000);
	pthread_kill(r.thread, SIGUSR1);
	pthread_join(r.thread, NULL);

	vcpu_mp_state_get(m->vcpus[1], &state);
	EXPECT_EQ(KVM_MP_STATE_INIT_RECEIVED, state.mp_state);
	vcpu_ioctl(m->vcpus[1], KVM_GET_LAPIC, &lapic);
	for (i = 0; i < 8; i++)
		EXPECT_EQ(0, *reg_of(&lapic, APIC_IRR + i * 0x10));
}

TEST_HARNESS_MAIN
