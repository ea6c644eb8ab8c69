// SPDX-License-Identifier: GPL-2.0-only
/*
 * The I/O APIC of a guest on dedicated cores: KVM sees each EOI that it has to
 * see, whatever becomes of the redirection entry meanwhile.
 *
 * A level-triggered interrupt whose EOI gets lost leaves remote IRR set, and its
 * line dead; the RTC's leaves it coalesced for ever.  Under stock KVM's LAPIC
 * ("emulated"), too, which shows that the guest is right.
 *
 * With a split irqchip the I/O APIC is this program's, as it is QEMU's: KVM knows
 * the routes only, and every EOI has to be told to us, once.
 */
#define _GNU_SOURCE
#include <asm/kvm_para.h>
#include <pthread.h>
#include <sys/eventfd.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define NR_VCPUS	2
#define HOST		NR_VCPUS	/* who else writes redirection entries */

#define IOAPIC_BASE	0xfec00000u
#define IOAPIC_WINDOW	0x10
#define RTE(pin)	(0x10 + 2 * (pin))
#define RTE_LOWEST	BIT(8)
#define RTE_LOGICAL	BIT(11)
#define RTE_REMOTE_IRR	BIT(14)
#define RTE_LEVEL	BIT(15)
#define RTE_MASKED	BIT(16)
#define RTE_MSI_DATA	(0x7ff | RTE_LEVEL)	/* at the same place in both */
#define RTE_TARGET(rte)	((rte) >> 56)

#define MSI_ADDRESS	0xfee00000u
#define MSI_LOGICAL	BIT(2)
#define MSI_TARGET(id)	((uint32_t)(id) << 12)

#define NR_PINS		24
#define PIN		20	/* the I/O APIC's only */
#define OTHER_PIN	21
#define RTC_PIN		8
#define VECTOR		0x75
#define OTHER_VECTOR	0x85
#define EDGE_VECTOR	0x95

#define NR_PAGES	2048
#define MAX_PAUSE_US	300	/* between two new routes */
/* See hpkvm_count(). */
#define NR_REROUTED_IRQS	200
#define NR_RTC_IRQS		1000

/* Low ones are exceptions to the host, class 15's last is its own. */
static const uint8_t vectors[] = { VECTOR, 20, 0xf3, 0xf5 };

enum request {
	NOTHING,
	WRITE_RTE,	/* of PIN, to @rte and @destination */
	READ_RTE,	/* of PIN, to @rte */
	CLI,
	STI,
	READ_IRR,	/* of @vector, to @irr */
	SCANS,		/* rewrite OTHER_PIN's until the next request */
};

/* The host's side and each guest's; one request at a time. */
static struct shared {
	uint64_t request[NR_VCPUS];
	uint64_t ready[NR_VCPUS];
	uint64_t in_service[NR_VCPUS];
	uint64_t hits[NR_VCPUS];
	uint64_t edges;		/* EDGE_VECTOR's, of vCPU 0 */
	uint64_t pv_eoi[NR_VCPUS];
	uint64_t lazy_eois[NR_VCPUS];
	uint64_t hold;		/* handlers wait before their EOI */
	uint64_t rte, destination, vector, irr;
	uint64_t tmr_before, tmr_after;
} shared;

/* How this program's I/O APIC tells KVM of an interrupt. */
enum sender {
	BY_LINE,	/* as QEMU does */
	BY_MSI,
	BY_IRQFD,
	NR_SENDERS
};

/* The one pin of an I/O APIC in user space. */
struct pin {
	struct kvm_vm *vm;
	pthread_mutex_t lock;
	uint64_t rte;
	uint32_t selected;
	bool level;
	int irqfd;
	enum sender sender;
	uint64_t eois;		/* that KVM told us of */
};

struct machine;

struct thread {
	struct machine *m;
	int i;
};

struct machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	uint32_t cores[NR_VCPUS];
	struct thread threads[NR_VCPUS];
	bool dedicated;
	bool split;
	struct pin pin;		/* if @split */
	struct shared *s;
};

FIXTURE(ioapic) {
	struct machine m;
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

FIXTURE(split) {
	struct machine m;
};

FIXTURE_VARIANT(split) {
	bool dedicated;
};

FIXTURE_VARIANT_ADD(split, emulated) {
	.dedicated = false,
};

FIXTURE_VARIANT_ADD(split, dedicated) {
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
		/* First: after STI a handler may come, and serve the next. */
		WRITE_ONCE(shared.request[me], NOTHING);
		asm volatile("sti" : : : "memory");
		return;
	case READ_IRR:
		shared.irr = guest_lapic_bit(APIC_IRR, shared.vector);
		break;
	case SCANS:
		guest_scans(me);
		return;
	default:
		return;
	}
	WRITE_ONCE(shared.request[me], NOTHING);
}

/* Lazily if KVM says that this will do, as Linux does. */
static void guest_eoi(int me)
{
	bool lazy;

	asm volatile("btrq $0, %0"
		     : "+m"(shared.pv_eoi[me]), "=@ccc"(lazy) : : "memory");
	if (lazy)
		shared.lazy_eois[me]++;
	else
		x2apic_write_reg(APIC_EOI, 0);
}

/* Without an exit before the EOI, which could not be a lazy one then. */
static void guest_edge_handler(struct ex_regs *regs)
{
	WRITE_ONCE(shared.edges, shared.edges + 1);
	guest_eoi(0);
}

static void guest_handler(struct ex_regs *regs)
{
	int me = x2apic_read_reg(APIC_ID);

	WRITE_ONCE(shared.in_service[me], 1);
	WRITE_ONCE(shared.hits[me], shared.hits[me] + 1);
	while (READ_ONCE(shared.hold))
		guest_serve(me);
	shared.tmr_before = guest_lapic_bit(APIC_TMR, regs->vector);
	guest_eoi(me);
	shared.tmr_after = guest_lapic_bit(APIC_TMR, regs->vector);
	WRITE_ONCE(shared.in_service[me], 0);
}

static void guest_code(int me, uint64_t pv_eoi_gpa)
{
	x2apic_enable();
	wrmsr(MSR_KVM_PV_EOI_EN, pv_eoi_gpa | KVM_MSR_ENABLED);
	/* The RTC's interrupt would come from the 8259, too. */
	x2apic_write_reg(APIC_LVT0, APIC_LVT_MASKED);
	asm volatile("sti");
	WRITE_ONCE(shared.ready[me], 1);
	for (;;)
		guest_serve(me);
}

/* ---- An I/O APIC in user space ---- */

static struct kvm_msi pin_message(struct pin *p)
{
	return (struct kvm_msi) {
		.address_lo = MSI_ADDRESS | MSI_TARGET(RTE_TARGET(p->rte)) |
			      (p->rte & RTE_LOGICAL ? MSI_LOGICAL : 0),
		.data = p->rte & RTE_MSI_DATA,
	};
}

/* From the routes KVM knows whose EOI we want.  Like QEMU's, masked ones stay. */
static void pin_route(struct pin *p)
{
	struct kvm_irq_routing *routing = kvm_gsi_routing_create();
	struct kvm_msi msi = pin_message(p);

	routing->nr = 1;
	routing->entries[0] = (struct kvm_irq_routing_entry) {
		.gsi = PIN,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi.address_lo = msi.address_lo,
		.u.msi.data = msi.data,
	};
	kvm_gsi_routing_write(p->vm, routing);
}

static void pin_send(struct pin *p)
{
	struct kvm_msi msi = pin_message(p);
	uint64_t one = 1;

	switch (p->sender) {
	case BY_LINE:
		kvm_irq_line(p->vm, PIN, 1);
		break;
	case BY_MSI:
		TEST_ASSERT_EQ(1, __vm_ioctl(p->vm, KVM_SIGNAL_MSI, &msi));
		break;
	default:
		TEST_ASSERT_EQ(sizeof(one),
			       write(p->irqfd, &one, sizeof(one)));
		break;
	}
}

static void pin_service(struct pin *p)
{
	if (!p->level || p->rte & (RTE_MASKED | RTE_REMOTE_IRR))
		return;
	p->rte |= RTE_REMOTE_IRR;
	pin_send(p);
}

static void pin_write(struct pin *p, uint64_t rte)
{
	p->rte = (rte & ~RTE_REMOTE_IRR) | (p->rte & RTE_REMOTE_IRR);
	if (!(rte & RTE_MASKED))
		pin_route(p);
	pin_service(p);
}

static void pin_set_level(struct pin *p, bool level)
{
	pthread_mutex_lock(&p->lock);
	p->level = level;
	pin_service(p);
	pthread_mutex_unlock(&p->lock);
}

static void pin_mmio(struct pin *p, struct kvm_run *run)
{
	int shift = 32 * (p->selected - RTE(PIN));
	uint32_t data;

	TEST_ASSERT_EQ(sizeof(data), run->mmio.len);
	memcpy(&data, run->mmio.data, sizeof(data));
	pthread_mutex_lock(&p->lock);
	if (run->mmio.phys_addr == IOAPIC_BASE) {
		TEST_ASSERT_EQ(RTE(PIN), data & ~1);
		p->selected = data;
	} else if (run->mmio.is_write) {
		pin_write(p, (p->rte & ~((uint64_t)~0u << shift)) |
			     (uint64_t)data << shift);
	} else {
		data = p->rte >> shift;
		memcpy(run->mmio.data, &data, sizeof(data));
	}
	pthread_mutex_unlock(&p->lock);
}

static void pin_eoi(struct pin *p, uint8_t vector)
{
	pthread_mutex_lock(&p->lock);
	TEST_ASSERT_EQ((uint8_t)p->rte, vector);
	p->eois++;
	p->rte &= ~RTE_REMOTE_IRR;
	pin_service(p);
	pthread_mutex_unlock(&p->lock);
}

static void pin_set_up(struct pin *p, struct kvm_vm *vm)
{
	struct kvm_irqfd irqfd = { .gsi = PIN };

	*p = (struct pin) {
		.vm = vm,
		.lock = PTHREAD_MUTEX_INITIALIZER,
		.rte = RTE_MASKED,
		.selected = RTE(PIN),
		.irqfd = eventfd(0, EFD_CLOEXEC),
	};
	irqfd.fd = p->irqfd;
	vm_ioctl(vm, KVM_IRQFD, &irqfd);
}

/* ---- The host ---- */

/* What vm_create() does, but for the irqchip, which can't be had later. */
static struct kvm_vm *create_split_vm(void)
{
	struct kvm_vm *vm = vm_create_barebones();

	vm_enable_cap(vm, KVM_CAP_SPLIT_IRQCHIP, NR_PINS);
	vm->has_irqchip = true;
	vm_userspace_mem_region_add(vm, VM_MEM_SRC_ANONYMOUS, 0, 0, NR_PAGES,
				    0);
	kvm_vm_elf_load(vm, program_invocation_name);
	kvm_arch_vm_post_create(vm);
	return vm;
}

static void ask(struct shared *s, int i, enum request request)
{
	WRITE_ONCE(s->request[i], request);
	HPKVM_WAIT_FOR(s->request[i], NOTHING);
}

/* An EOI that KVM tells us of is one that the core's own local APIC had. */
static void handle_eoi(struct machine *m, struct kvm_vcpu *vcpu)
{
	TEST_ASSERT(!m->dedicated ||
		    hpkvm_state(vcpu).mode == KVM_HPKVM_MODE_PASSTHROUGH,
		    "It has left passthrough");
	pin_eoi(&m->pin, vcpu->run->eoi.vector);
}

static void *run(void *arg)
{
	struct thread *t = arg;
	struct machine *m = t->m;
	struct kvm_vcpu *vcpu = m->vcpus[t->i];

	TEST_ASSERT(!m->dedicated || !hpkvm_bind(vcpu, m->cores[t->i], NULL),
		    "Can't bind");
	for (;;) {
		vcpu_run(vcpu);
		TEST_ASSERT(m->split, "The guest ended");
		if (vcpu->run->exit_reason == KVM_EXIT_IOAPIC_EOI) {
			handle_eoi(m, vcpu);
		} else {
			TEST_ASSERT_KVM_EXIT_REASON(vcpu, KVM_EXIT_MMIO);
			pin_mmio(&m->pin, vcpu->run);
		}
	}
	return NULL;
}

/* Returns NULL, or why the test must be skipped. */
static const char *set_up(struct machine *m, bool split, bool dedicated)
{
	pthread_t thread;
	int i;

	m->dedicated = dedicated;
	m->split = split;
	if (dedicated && !hpkvm_supported())
		return "this kernel or host has no KVM_CAP_X86_HPKVM";
	if (dedicated && hpkvm_find_cores(m->cores, NR_VCPUS) < NR_VCPUS)
		return "the host can't lease enough CPUs";

	m->vm = split ? create_split_vm() : vm_create(NR_VCPUS);
	if (dedicated)
		hpkvm_vm_enable(m->vm, KVM_HPKVM_F_ALL);
	if (split)
		pin_set_up(&m->pin, m->vm);
	for (i = 0; i < NR_VCPUS; i++) {
		m->vcpus[i] = vm_vcpu_add(m->vm, i, guest_code);
		vcpu_args_set(m->vcpus[i], 2, i,
			      addr_gva2gpa(m->vm,
					   (vm_vaddr_t)&shared.pv_eoi[i]));
	}
	for (i = 0; i < ARRAY_SIZE(vectors); i++)
		vm_install_exception_handler(m->vm, vectors[i], guest_handler);
	vm_install_exception_handler(m->vm, OTHER_VECTOR, guest_handler);
	vm_install_exception_handler(m->vm, EDGE_VECTOR, guest_edge_handler);
	virt_map(m->vm, IOAPIC_BASE, IOAPIC_BASE, 1);
	m->s = addr_gva2hva(m->vm, (vm_vaddr_t)&shared);
	for (i = 0; i < NR_VCPUS; i++) {
		m->threads[i] = (struct thread) { m, i };
		TEST_ASSERT(!pthread_create(&thread, NULL, run, &m->threads[i]),
			    "No thread");
	}
	for (i = 0; i < NR_VCPUS; i++)
		HPKVM_WAIT_FOR(m->s->ready[i], 1);
	return NULL;
}

FIXTURE_SETUP(ioapic)
{
	const char *skip = set_up(&self->m, false, variant->dedicated);

	if (skip)
		SKIP(return, "%s", skip);
}

FIXTURE_SETUP(split)
{
	const char *skip = set_up(&self->m, true, variant->dedicated);

	if (skip)
		SKIP(return, "%s", skip);
}

/* The guest never ends: the process does, and with it all else. */
FIXTURE_TEARDOWN(ioapic)
{
}

FIXTURE_TEARDOWN(split)
{
}

static void set_line(struct machine *m, int level)
{
	if (m->split)
		pin_set_level(&m->pin, level);
	else
		kvm_irq_line(m->vm, PIN, level);
}

/* An entry of KVM's own I/O APIC. */
static uint64_t get_irqchip_rte(struct kvm_vm *vm, int pin)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };

	vm_ioctl(vm, KVM_GET_IRQCHIP, &chip);
	return chip.chip.ioapic.redirtbl[pin].bits;
}

static void set_irqchip_rte(struct kvm_vm *vm, int pin, uint64_t rte)
{
	struct kvm_irqchip chip = { .chip_id = KVM_IRQCHIP_IOAPIC };
	uint64_t old;

	vm_ioctl(vm, KVM_GET_IRQCHIP, &chip);
	old = chip.chip.ioapic.redirtbl[pin].bits;
	chip.chip.ioapic.redirtbl[pin].bits = rte | (old & RTE_REMOTE_IRR);
	vm_ioctl(vm, KVM_SET_IRQCHIP, &chip);
}

static void host_write_rte(struct machine *m, uint64_t rte)
{
	if (!m->split) {
		set_irqchip_rte(m->vm, PIN, rte);
		return;
	}
	pthread_mutex_lock(&m->pin.lock);
	pin_write(&m->pin, rte);
	pthread_mutex_unlock(&m->pin.lock);
}

static void write_rte(struct machine *m, int writer, uint64_t rte, int target)
{
	uint64_t destination = rte & RTE_LOGICAL ? BIT(target) : target;

	if (writer == HOST) {
		host_write_rte(m, rte | destination << 56);
		return;
	}
	m->s->rte = rte;
	m->s->destination = destination;
	ask(m->s, writer, WRITE_RTE);
}

static uint64_t read_rte(struct machine *m, int reader)
{
	if (reader == HOST)
		return m->split ? m->pin.rte : get_irqchip_rte(m->vm, PIN);
	ask(m->s, reader, READ_RTE);
	return m->s->rte;
}

/* An edge-triggered interrupt for vCPU 0: nobody waits for its EOI. */
static void send_edge(struct machine *m)
{
	struct kvm_msi msi = {
		.address_lo = MSI_ADDRESS | MSI_TARGET(0),
		.data = EDGE_VECTOR,
	};

	TEST_ASSERT_EQ(1, __vm_ioctl(m->vm, KVM_SIGNAL_MSI, &msi));
}

/* When and how a redirection entry gets a new target. */
struct change {
	bool pending;		/* its interrupt; otherwise it is in service */
	bool masked;		/* the entry is, until the EOI */
	int writer;
	uint32_t mode;
	uint8_t vector;
};

static void assert_line_alive(struct machine *m, int writer, int target)
{
	struct shared *s = m->s;
	uint64_t hits = s->hits[target];

	TEST_ASSERT(!(read_rte(m, writer) & RTE_REMOTE_IRR),
		    "Its EOI was not seen");
	WRITE_ONCE(s->hold, 1);
	set_line(m, 1);
	HPKVM_WAIT_FOR(s->hits[target], hits + 1);
	set_line(m, 0);
	WRITE_ONCE(s->hold, 0);
	HPKVM_WAIT_FOR(s->in_service[target], 0);
}

/* Amid the level-triggered one's handler, if its priority is higher. */
static void take_edge(struct machine *m, uint8_t vector)
{
	uint64_t edges = m->s->edges;

	ask(m->s, 0, STI);
	send_edge(m);
	if (vector < EDGE_VECTOR)
		HPKVM_WAIT_FOR(m->s->edges, edges + 1);
}

static bool is_pending(struct shared *s)
{
	ask(s, 0, READ_IRR);
	return s->irr;
}

/* From vCPU 0 to vCPU 1. */
static void retarget(struct machine *m, const struct change *c)
{
	uint64_t rte = c->vector | c->mode | RTE_LEVEL;
	struct shared *s = m->s;
	uint64_t hits = s->hits[0], edges = s->edges;

	s->vector = c->vector;
	write_rte(m, c->writer, rte, 0);
	if (c->pending)
		ask(s, 0, CLI);
	WRITE_ONCE(s->hold, 1);
	set_line(m, 1);
	if (c->pending)
		TEST_ASSERT(HPKVM_WAIT(is_pending(s)), "It never came");
	else
		HPKVM_WAIT_FOR(s->in_service[0], 1);

	write_rte(m, c->writer, c->masked ? rte | RTE_MASKED : rte, 1);
	if (c->pending)
		WRITE_ONCE(s->request[0], STI);
	HPKVM_WAIT_FOR(s->in_service[0], 1);
	take_edge(m, c->vector);
	set_line(m, 0);
	WRITE_ONCE(s->hold, 0);
	HPKVM_WAIT_FOR(s->in_service[0], 0);
	HPKVM_WAIT_FOR(s->edges, edges + 1);
	TEST_ASSERT_EQ(1, s->tmr_before);
	TEST_ASSERT_EQ(1, s->tmr_after);
	if (c->masked)
		write_rte(m, c->writer, rte, 1);

	assert_line_alive(m, c->writer, 1);
	TEST_ASSERT_EQ(hits + 1, s->hits[0]);
}

static uint64_t total_hits(struct shared *s)
{
	return READ_ONCE(s->hits[0]) + READ_ONCE(s->hits[1]);
}

static bool has_apicv(void)
{
	return host_cpu_is_intel ? get_kvm_intel_param_bool("enable_apicv") :
				   get_kvm_amd_param_bool("avic");
}

/* All there is of states, writers and modes; the rest by turns. */
static void retarget_all(struct machine *m)
{
	static const uint32_t modes[] = {
		0, RTE_LOWEST, RTE_LOGICAL, RTE_LOGICAL | RTE_LOWEST,
	};
	struct shared *s = m->s;
	int n = 0;

	for (int state = 0; state < 4; state++) {
		for (int i = 0; i < ARRAY_SIZE(modes); i++) {
			for (int writer = 0; writer <= HOST; writer++, n++) {
				struct change c = {
					.pending = state & 1,
					.masked = state & 2,
					.writer = writer,
					.mode = modes[i],
					.vector = vectors[n % ARRAY_SIZE(vectors)],
				};

				m->pin.sender = n / 2 % NR_SENDERS;
				retarget(m, &c);
				TEST_ASSERT(!m->split ||
					    m->pin.eois == total_hits(s),
					    "%lu EOIs of %lu interrupts",
					    m->pin.eois, total_hits(s));
			}
		}
	}
	/* Only stock KVM's local APIC has those that need no exit. */
	TEST_ASSERT_EQ(!m->dedicated && !has_apicv(), !!s->lazy_eois[0]);
}

TEST_F_TIMEOUT(ioapic, retarget, 60 * PATIENCE)
{
	retarget_all(&self->m);
}

TEST_F_TIMEOUT(split, retarget, 60 * PATIENCE)
{
	retarget_all(&self->m);
}

struct rerouter {
	struct machine *m;
	pthread_t thread;
	bool stop;
};

static void *reroute(void *arg)
{
	struct rerouter *r = arg;
	uint64_t seed = 1;

	for (int target = 0; !READ_ONCE(r->stop); target = !target) {
		write_rte(r->m, HOST, VECTOR | RTE_LEVEL, target);
		usleep(hpkvm_random(&seed) % MAX_PAUSE_US);
	}
	return NULL;
}

/* Its target changes at any moment, and above all about the EOI. */
TEST_F_TIMEOUT(split, amid_rerouting, 120 * PATIENCE)
{
	int irqs = hpkvm_count(NR_REROUTED_IRQS);
	struct rerouter r = { .m = &self->m };
	struct machine *m = &self->m;
	struct shared *s = m->s;

	ASSERT_EQ(0, pthread_create(&r.thread, NULL, reroute, &r));
	for (int i = 1; i <= irqs; i++) {
		WRITE_ONCE(s->hold, 1);
		set_line(m, 1);
		TEST_ASSERT(HPKVM_WAIT(total_hits(s) == i),
			    "%lu interrupts of %d", total_hits(s), i);
		set_line(m, 0);
		WRITE_ONCE(s->hold, 0);
		HPKVM_WAIT_FOR(m->pin.eois, i);
	}
	WRITE_ONCE(r.stop, true);
	ASSERT_EQ(0, pthread_join(r.thread, NULL));
	ASSERT_EQ(irqs, total_hits(s));
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

	set_irqchip_rte(m->vm, RTC_PIN, VECTOR);
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
		set_irqchip_rte(m->vm, RTC_PIN, i % 2 ? OTHER_VECTOR : VECTOR);
		expect_rtc(m, 2 * i + 1);
		/* Is the EOI of that one known to KVM? */
		expect_rtc(m, 2 * i + 2);
	}
}

TEST_HARNESS_MAIN
