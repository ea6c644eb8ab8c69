// SPDX-License-Identifier: GPL-2.0-only
/*
 * The I/O APIC of a guest on dedicated cores: KVM sees each EOI that it has to
 * see, whatever becomes of the redirection entry meanwhile.
 *
 * A level-triggered interrupt whose EOI gets lost leaves remote IRR set, and its
 * line dead; the RTC's leaves it coalesced for ever.  Under stock KVM's LAPIC
 * ("emulated"), too, which shows that the guest is right.
 */
#define _GNU_SOURCE
#include <pthread.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define NR_VCPUS	2

#define IOAPIC_BASE	0xfec00000u
#define IOAPIC_WINDOW	0x10
#define RTE(pin)	(0x10 + 2 * (pin))
#define RTE_LOWEST	BIT(8)
#define RTE_REMOTE_IRR	BIT(14)
#define RTE_LEVEL	BIT(15)
#define RTE_MASKED	BIT(16)

#define PIN		20	/* the I/O APIC's only */
#define OTHER_PIN	21
#define RTC_PIN		8
#define VECTOR		0x75
#define OTHER_VECTOR	0x85

#define NR_RTC_IRQS	1000	/* see hpkvm_count() */

enum request {
	NOTHING,
	WRITE_RTE,	/* of PIN, to @rte and @destination */
	READ_RTE,	/* of PIN, to @rte */
	CLI,
	STI,
	READ_IRR,	/* of VECTOR, to @irr */
	SCANS,		/* rewrite OTHER_PIN's until the next request */
};

/* The host's side and each guest's; one request at a time. */
static struct shared {
	uint64_t request[NR_VCPUS];
	uint64_t ready[NR_VCPUS];
	uint64_t in_service[NR_VCPUS];
	uint64_t hits[NR_VCPUS];
	uint64_t hold;		/* handlers wait before their EOI */
	uint64_t rte, destination, irr;
	uint64_t tmr_before, tmr_after;
} shared;

struct machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	uint32_t cores[NR_VCPUS];
	bool dedicated;
	struct shared *s;
};

struct thread {
	struct machine *m;
	int i;
};

FIXTURE(ioapic) {
	struct machine m;
	struct thread threads[NR_VCPUS];
};

FIXTURE_VARIANT(ioapic) {
	bool dedicated;
};

FIXTURE_VARIANT_ADD(ioapic, emulated) {
	.dedicated = false,
};

FIXTURE_VARIANT_ADD(ioapic, dedicated) {
	.dedicated = true,
};

/* ---- The guest ---- */

static void guest_write(uint32_t reg, uint32_t value)
{
	WRITE_ONCE(*(uint32_t *)(uint64_t)IOAPIC_BASE, reg);
	WRITE_ONCE(*(uint32_t *)(uint64_t)(IOAPIC_BASE + IOAPIC_WINDOW), value);
}

static uint32_t guest_read(uint32_t reg)
{
	WRITE_ONCE(*(uint32_t *)(uint64_t)IOAPIC_BASE, reg);
	return READ_ONCE(*(uint32_t *)(uint64_t)(IOAPIC_BASE + IOAPIC_WINDOW));
}

static bool guest_lapic_bit(uint32_t reg, uint8_t vector)
{
	return x2apic_read_reg(reg + vector / 32 * 0x10) & BIT(vector % 32);
}

static void guest_scans(int me)
{
	uint32_t rte = OTHER_VECTOR | RTE_LEVEL | RTE_MASKED;

	guest_write(RTE(OTHER_PIN) + 1, 0);
	while (READ_ONCE(shared.request[me]) == SCANS)
		guest_write(RTE(OTHER_PIN), rte);
}

static void guest_serve(int me)
{
	uint64_t request = READ_ONCE(shared.request[me]);

	switch (request) {
	case WRITE_RTE:
		guest_write(RTE(PIN) + 1, shared.destination << 24);
		guest_write(RTE(PIN), shared.rte);
		break;
	case READ_RTE:
		shared.rte = guest_read(RTE(PIN));
		break;
	case CLI:
		asm volatile("cli" : : : "memory");
		break;
	case STI:
		asm volatile("sti" : : : "memory");
		break;
	case READ_IRR:
		shared.irr = guest_lapic_bit(APIC_IRR, VECTOR);
		break;
	case SCANS:
		guest_scans(me);
		return;
	default:
		return;
	}
	WRITE_ONCE(shared.request[me], NOTHING);
}

static void guest_handler(struct ex_regs *regs)
{
	int me = x2apic_read_reg(APIC_ID);

	WRITE_ONCE(shared.in_service[me], 1);
	WRITE_ONCE(shared.hits[me], shared.hits[me] + 1);
	while (READ_ONCE(shared.hold))
		guest_serve(me);
	shared.tmr_before = guest_lapic_bit(APIC_TMR, VECTOR);
	x2apic_write_reg(APIC_EOI, 0);
	shared.tmr_after = guest_lapic_bit(APIC_TMR, VECTOR);
	WRITE_ONCE(shared.in_service[me], 0);
}

static void guest_code(int me)
{
	x2apic_enable();
	/* The RTC's interrupt would come from the 8259, too. */
	x2apic_write_reg(APIC_LVT0, APIC_LVT_MASKED);
	asm volatile("sti");
	WRITE_ONCE(shared.ready[me], 1);
	for (;;)
		guest_serve(me);
}

/* ---- The host ---- */

static void ask(struct shared *s, int i, enum request request)
{
	WRITE_ONCE(s->request[i], request);
	HPKVM_WAIT_FOR(s->request[i], NOTHING);
}

static void *run(void *arg)
{
	struct thread *t = arg;

	TEST_ASSERT(!t->m->dedicated ||
		    !hpkvm_bind(t->m->vcpus[t->i], t->m->cores[t->i], NULL),
		    "Can't bind");
	vcpu_run(t->m->vcpus[t->i]);
	TEST_FAIL("The guest ended");
	return NULL;
}

FIXTURE_SETUP(ioapic)
{
	struct machine *m = &self->m;
	pthread_t thread;
	int i;

	m->dedicated = variant->dedicated;
	if (m->dedicated && !hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	if (m->dedicated && hpkvm_find_cores(m->cores, NR_VCPUS) < NR_VCPUS)
		SKIP(return, "the host can't lease %d CPUs", NR_VCPUS);

	m->vm = m->dedicated ? hpkvm_vm_create(NR_VCPUS, KVM_HPKVM_F_ALL) :
			       vm_create(NR_VCPUS);
	for (i = 0; i < NR_VCPUS; i++) {
		m->vcpus[i] = vm_vcpu_add(m->vm, i, guest_code);
		vcpu_args_set(m->vcpus[i], 1, i);
	}
	vm_install_exception_handler(m->vm, VECTOR, guest_handler);
	vm_install_exception_handler(m->vm, OTHER_VECTOR, guest_handler);
	virt_map(m->vm, IOAPIC_BASE, IOAPIC_BASE, 1);
	m->s = addr_gva2hva(m->vm, (vm_vaddr_t)&shared);
	for (i = 0; i < NR_VCPUS; i++) {
		self->threads[i] = (struct thread) { m, i };
		ASSERT_EQ(0, pthread_create(&thread, NULL, run,
					    &self->threads[i]));
	}
	for (i = 0; i < NR_VCPUS; i++)
		HPKVM_WAIT_FOR(m->s->ready[i], 1);
}

/* The guest never ends: the process does, and with it all else. */
FIXTURE_TEARDOWN(ioapic)
{
}

/* What the interrupt is doing when its redirection entry gets a new target. */
enum moment {
	PENDING,
	IN_SERVICE,
	MASKED,		/* in service, and the entry is masked meanwhile */
	NR_MOMENTS
};

static void write_rte(struct shared *s, int writer, uint64_t rte, int target)
{
	s->rte = rte;
	s->destination = target;
	ask(s, writer, WRITE_RTE);
}

static void assert_line_alive(struct machine *m, int writer, int target)
{
	struct shared *s = m->s;
	uint64_t hits = s->hits[target];

	ask(s, writer, READ_RTE);
	TEST_ASSERT(!(s->rte & RTE_REMOTE_IRR), "Its EOI was not seen");
	WRITE_ONCE(s->hold, 1);
	kvm_irq_line(m->vm, PIN, 1);
	HPKVM_WAIT_FOR(s->hits[target], hits + 1);
	kvm_irq_line(m->vm, PIN, 0);
	WRITE_ONCE(s->hold, 0);
	HPKVM_WAIT_FOR(s->in_service[target], 0);
}

/* From vCPU 0 to vCPU 1, by the hand of @writer. */
static void retarget(struct machine *m, enum moment when, int writer,
		     uint32_t mode)
{
	uint64_t rte = VECTOR | mode | RTE_LEVEL;
	struct shared *s = m->s;
	uint64_t hits = s->hits[0];

	write_rte(s, writer, rte, 0);
	if (when == PENDING)
		ask(s, 0, CLI);
	WRITE_ONCE(s->hold, 1);
	kvm_irq_line(m->vm, PIN, 1);
	if (when == PENDING) {
		do
			ask(s, 0, READ_IRR);
		while (!s->irr);
	} else {
		HPKVM_WAIT_FOR(s->in_service[0], 1);
	}

	write_rte(s, writer, when == MASKED ? rte | RTE_MASKED : rte, 1);
	if (when == PENDING)
		WRITE_ONCE(s->request[0], STI);
	HPKVM_WAIT_FOR(s->in_service[0], 1);
	kvm_irq_line(m->vm, PIN, 0);
	WRITE_ONCE(s->hold, 0);
	HPKVM_WAIT_FOR(s->in_service[0], 0);
	TEST_ASSERT_EQ(1, s->tmr_before);
	TEST_ASSERT_EQ(1, s->tmr_after);
	if (when == MASKED)
		write_rte(s, writer, rte, 1);

	assert_line_alive(m, writer, 1);
	TEST_ASSERT_EQ(hits + 1, s->hits[0]);
}

TEST_F_TIMEOUT(ioapic, retarget, 60 * PATIENCE)
{
	static const uint32_t modes[] = { 0, RTE_LOWEST };
	struct machine *m = &self->m;

	for (int when = 0; when < NR_MOMENTS; when++) {
		for (int i = 0; i < ARRAY_SIZE(modes) * NR_VCPUS; i++)
			retarget(m, when, i % NR_VCPUS, modes[i / NR_VCPUS]);
	}
}

/* Returns whether it was delivered; false if it was coalesced. */
static bool raise_rtc(struct kvm_vm *vm)
{
	struct kvm_irq_level irq = { .irq = RTC_PIN, .level = 1 };
	bool delivered;

	vm_ioctl(vm, KVM_IRQ_LINE_STATUS, &irq);
	delivered = irq.status > 0;
	irq.irq = RTC_PIN;
	irq.level = 0;
	vm_ioctl(vm, KVM_IRQ_LINE_STATUS, &irq);
	return delivered;
}

static void route_rtc(struct kvm_vm *vm, uint8_t vector)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	vm_ioctl(vm, KVM_GET_IRQCHIP, &chip);
	chip.chip.ioapic.redirtbl[RTC_PIN].bits = vector;
	vm_ioctl(vm, KVM_SET_IRQCHIP, &chip);
}

/* Raises the RTC's line until vCPU 0 has had @hits interrupts. */
static void expect_rtc(struct machine *m, uint64_t hits)
{
	TEST_ASSERT(HPKVM_WAIT(raise_rtc(m->vm)),
		    "After %lu it is coalesced for ever", hits - 1);
	HPKVM_WAIT_FOR(m->s->hits[0], hits);
}

/*
 * KVM follows the EOI of the RTC's interrupt, which is edge-triggered, and so
 * could go straight to the core.  That it must not is known from a scan of the
 * I/O APIC, which vCPU 1 asks vCPU 0 for all the time.
 */
TEST_F_TIMEOUT(ioapic, rtc_amid_scans, 120 * PATIENCE)
{
	int irqs = hpkvm_count(NR_RTC_IRQS);
	struct machine *m = &self->m;
	struct shared *s = m->s;

	route_rtc(m->vm, VECTOR);
	/* A guest that answers has been entered since, and scanned first. */
	ask(s, 0, READ_IRR);
	WRITE_ONCE(s->request[1], SCANS);
	for (int i = 1; i <= irqs; i++)
		expect_rtc(m, i);
	WRITE_ONCE(s->request[1], NOTHING);
}

/* It gets another vector, and is raised before vCPU 0 can have scanned. */
TEST_F_TIMEOUT(ioapic, rtc_rerouted, 120 * PATIENCE)
{
	int irqs = hpkvm_count(NR_RTC_IRQS / 2);
	struct machine *m = &self->m;

	for (int i = 0; i < irqs; i++) {
		route_rtc(m->vm, i % 2 ? OTHER_VECTOR : VECTOR);
		expect_rtc(m, 2 * i + 1);
		/* Is the EOI of that one known to KVM? */
		expect_rtc(m, 2 * i + 2);
	}
}

TEST_HARNESS_MAIN
