// SPDX-License-Identifier: GPL-2.0-only
/*
 * MSIs of a VFIO device that go straight to a dedicated core.
 *
 * Needs a device that interrupts on request: QEMU's "edu", bound to vfio-pci,
 * whose PCI address is in the environment variable HPKVM_EDU; skipped without.
 * It is raised by the host, so the guest has nothing to do but count.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define EDU_RAISE	0x60
#define EDU_ACK		0x64
#define PCI_COMMAND	4
#define PCI_MASTER	0x4

#define GSI		24	/* above those of the IOAPIC */
#define MSI_ADDRESS	0xfee00000u
#define VECTOR		0x51
#define OTHER_VECTOR	0x93
#define NR_IRQS		500
#define NR_CALLS	1000
#define NR_HOST_IRQS	400	/* see hpkvm_count() */
#define SETTLE_US	2000

static uint64_t hits[256];

/*
 * Guests may use them, Linux doesn't: what the device sends to a core after its
 * release stays in the IRR.  None of an exception with an error code.
 */
static const uint8_t low_vectors[] = { 20, 22, 23, 24 };

enum request {
	COUNT_EXITS,
	LOOK_AT_LAPIC,
	UNBIND,
	BIND,
};

struct machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	uint32_t core;
	pthread_t thread;
	int device;
	int eventfd;		/* -1: closed */
	bool has_msi;
	bool bound;
	uint32_t *raise;
	uint32_t *ack;
	enum request request;
	unsigned int served;
	uint64_t exits;
};

FIXTURE(vfio) {
	struct machine m;
};

/* ---- The device ---- */

static int open_group(const char *address)
{
	char link[64], target[256], path[64];
	ssize_t length;
	int group;

	snprintf(link, sizeof(link), "/sys/bus/pci/devices/%s/iommu_group",
		 address);
	length = readlink(link, target, sizeof(target) - 1);
	TEST_ASSERT(length > 0, "%s has no IOMMU group", address);
	target[length] = 0;
	snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(target, '/') + 1);
	group = open(path, O_RDWR);
	TEST_ASSERT(group >= 0, "Can't open %s: %d", path, errno);
	return group;
}

static int open_device(const char *address)
{
	int container = open("/dev/vfio/vfio", O_RDWR);
	int group = open_group(address);
	int device;

	TEST_ASSERT(!ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) &&
		    !ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU),
		    "No container for the group: %d", errno);
	device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, address);
	TEST_ASSERT(device >= 0, "No device: %d", errno);
	return device;
}

static void *map_registers(int device)
{
	struct vfio_region_info bar = {
		.argsz = sizeof(bar),
		.index = VFIO_PCI_BAR0_REGION_INDEX,
	};
	struct vfio_region_info config = {
		.argsz = sizeof(config),
		.index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	uint16_t command;
	void *regs;

	TEST_ASSERT(!ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &bar) &&
		    !ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config),
		    "No region: %d", errno);
	TEST_ASSERT(pread(device, &command, sizeof(command),
			  config.offset + PCI_COMMAND) == sizeof(command),
		    "Can't read its configuration");
	command |= PCI_MASTER;
	TEST_ASSERT(pwrite(device, &command, sizeof(command),
			   config.offset + PCI_COMMAND) == sizeof(command),
		    "Can't write its configuration");
	regs = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE, MAP_SHARED,
		    device, bar.offset);
	TEST_ASSERT(regs != MAP_FAILED, "Can't map BAR 0: %d", errno);
	return regs;
}

/* KVM's end of the eventfd.  Fails for one that it has already. */
static int set_irqfd(struct machine *m, uint32_t flags)
{
	struct kvm_irqfd irqfd = {
		.gsi = GSI,
		.fd = m->eventfd,
		.flags = flags,
	};

	return __vm_ioctl(m->vm, KVM_IRQFD, &irqfd);
}

/* VFIO's end: the eventfd for its MSI, or, without one, no MSI. */
static void set_trigger(struct machine *m, bool on)
{
	char buffer[sizeof(struct vfio_irq_set) + sizeof(int)];
	struct vfio_irq_set *set = (struct vfio_irq_set *)buffer;

	*set = (struct vfio_irq_set) {
		.argsz = on ? sizeof(buffer) : sizeof(*set),
		.flags = VFIO_IRQ_SET_ACTION_TRIGGER |
			 (on ? VFIO_IRQ_SET_DATA_EVENTFD :
			       VFIO_IRQ_SET_DATA_NONE),
		.index = VFIO_PCI_MSI_IRQ_INDEX,
		.count = on,
	};
	memcpy(set->data, &m->eventfd, sizeof(int));
	TEST_ASSERT(!ioctl(m->device, VFIO_DEVICE_SET_IRQS, set),
		    "MSI on %d: %d", on, errno);
	m->has_msi = on;
}

/* One eventfd is all that VFIO and KVM share. */
static void connect_interrupt(struct machine *m)
{
	m->eventfd = eventfd(0, EFD_CLOEXEC);
	TEST_ASSERT(!set_irqfd(m, 0), "No irqfd: %d", errno);
	set_trigger(m, true);
}

static void close_eventfd(struct machine *m)
{
	if (m->eventfd >= 0)
		close(m->eventfd);
	m->eventfd = -1;
}

/* What the guest would have written into the device's MSI capability. */
static void route(struct kvm_vm *vm, uint32_t destination, uint32_t data)
{
	struct kvm_irq_routing *routing = kvm_gsi_routing_create();

	routing->nr = 1;
	routing->entries[0] = (struct kvm_irq_routing_entry) {
		.gsi = GSI,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi.address_lo = MSI_ADDRESS | destination << 12,
		.u.msi.data = data,
	};
	kvm_gsi_routing_write(vm, routing);
}

/* ---- The guest ---- */

static void count(struct ex_regs *regs)
{
	WRITE_ONCE(hits[regs->vector], hits[regs->vector] + 1);
	x2apic_write_reg(APIC_EOI, 0);
}

static void guest_code(void)
{
	x2apic_enable();
	asm volatile("sti");
	for (;;)
		cpu_relax();
}

static struct kvm_run *running;

/* One that comes before KVM_RUN must end it, too. */
static void on_signal(int signal)
{
	WRITE_ONCE(running->immediate_exit, 1);
}

static void *run(void *arg)
{
	struct kvm_lapic_state lapic;
	struct machine *m = arg;

	TEST_ASSERT(!hpkvm_bind(m->vcpu, m->core, NULL), "Can't bind");
	for (;;) {
		TEST_ASSERT(__vcpu_run(m->vcpu) && errno == EINTR,
			    "The guest ended");
		WRITE_ONCE(m->vcpu->run->immediate_exit, 0);
		switch (m->request) {
		case COUNT_EXITS:
			m->exits = hpkvm_vcpu_stat(m->vcpu, "exits");
			break;
		case LOOK_AT_LAPIC:
			vcpu_ioctl(m->vcpu, KVM_GET_LAPIC, &lapic);
			break;
		case UNBIND:
			TEST_ASSERT(!hpkvm_unbind(m->vcpu), "Can't unbind");
			break;
		case BIND:
			TEST_ASSERT(!hpkvm_bind(m->vcpu, m->core, NULL),
				    "Can't bind again");
			break;
		}
		WRITE_ONCE(m->served, m->served + 1);
	}
	return NULL;
}

/* Done once by the vCPU's thread, between two times in the guest. */
static void ask_and_wait(struct machine *m, enum request what,
			 unsigned int us)
{
	unsigned int before = READ_ONCE(m->served);

	m->request = what;
	pthread_kill(m->thread, SIGUSR1);
	while (READ_ONCE(m->served) == before) {
		if (us)
			usleep(us);
	}
}

static void ask(struct machine *m, enum request what)
{
	ask_and_wait(m, what, SETTLE_US);
}

/* ---- What the tests look at ---- */

static struct kvm_hpkvm_irq get_irq(struct machine *m)
{
	struct kvm_hpkvm_irq irq = { .gsi = GSI };

	vm_ioctl(m->vm, KVM_HPKVM_GET_IRQ, &irq);
	return irq;
}

/* As it is now, or when @mode is reached. */
static struct kvm_hpkvm_irq wait_mode(struct machine *m, uint32_t mode)
{
	HPKVM_WAIT(get_irq(m).mode == mode);
	return get_irq(m);
}

static uint64_t arrived(struct machine *m)
{
	uint64_t sum = 0;

	sync_global_from_guest(m->vm, hits);
	for (int i = 0; i < ARRAY_SIZE(hits); i++)
		sum += hits[i];
	return sum;
}

/* How many come of one, by whatever vector. */
static uint64_t raise_one(struct machine *m)
{
	uint64_t before = arrived(m);

	WRITE_ONCE(*m->raise, 1);
	HPKVM_WAIT(arrived(m) != before);
	return arrived(m) - before;
}

FIXTURE_SETUP(vfio)
{
	struct machine *m = &self->m;
	const char *address = getenv("HPKVM_EDU");
	uint8_t *registers;

	if (!hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	if (!(kvm_check_cap(KVM_CAP_X86_HPKVM) & KVM_HPKVM_F_DIRECT_VFIO))
		SKIP(return, "this host does not remap interrupts");
	if (!address)
		SKIP(return, "HPKVM_EDU names no device");
	if (!hpkvm_find_cores(&m->core, 1))
		SKIP(return, "no CPU of this host can be leased");

	m->vm = hpkvm_vm_create(2, KVM_HPKVM_F_ALL);
	m->vcpu = vm_vcpu_add(m->vm, 0, guest_code);
	vm_vcpu_add(m->vm, 1, guest_code);
	for (int v = 32; v < ARRAY_SIZE(hits); v++)
		vm_install_exception_handler(m->vm, v, count);
	for (int i = 0; i < ARRAY_SIZE(low_vectors); i++)
		vm_install_exception_handler(m->vm, low_vectors[i], count);

	m->device = open_device(address);
	registers = map_registers(m->device);
	m->raise = (uint32_t *)(registers + EDU_RAISE);
	m->ack = (uint32_t *)(registers + EDU_ACK);
	route(m->vm, 0, VECTOR);
	connect_interrupt(m);

	running = m->vcpu->run;
	signal(SIGUSR1, on_signal);
	ASSERT_EQ(0, pthread_create(&m->thread, NULL, run, m));
	m->bound = true;
	ASSERT_EQ(KVM_HPKVM_IRQ_MODE_DIRECT,
		  wait_mode(m, KVM_HPKVM_IRQ_MODE_DIRECT).mode);
}

/* The guest never ends: the process does, and with it all else. */
FIXTURE_TEARDOWN(vfio)
{
}

TEST_F(vfio, direct)
{
	struct machine *m = &self->m;
	struct kvm_hpkvm_irq irq = get_irq(m);
	uint64_t exits;

	EXPECT_EQ(KVM_HPKVM_IRQ_REASON_NONE, irq.reason);
	EXPECT_EQ(VECTOR, irq.vector);
	EXPECT_EQ(0, irq.vcpu);
	EXPECT_EQ(m->core, irq.cpu);
	EXPECT_EQ(1, irq.directed);

	ask(m, COUNT_EXITS);
	exits = m->exits;
	for (int i = 0; i < NR_IRQS; i++)
		ASSERT_EQ(1, raise_one(m));
	ask(m, COUNT_EXITS);
	/* Some for being asked. */
	EXPECT_GT(NR_IRQS / 10, m->exits - exits);
	EXPECT_EQ(NR_IRQS, hits[VECTOR]);
}

TEST_F(vfio, follows_the_message)
{
	struct machine *m = &self->m;

	route(m->vm, 0, OTHER_VECTOR);
	EXPECT_EQ(KVM_HPKVM_IRQ_MODE_DIRECT, get_irq(m).mode);
	EXPECT_EQ(OTHER_VECTOR, get_irq(m).vector);
	EXPECT_EQ(1, raise_one(m));
	EXPECT_EQ(1, hits[OTHER_VECTOR]);
	EXPECT_EQ(0, hits[VECTOR]);
}

TEST_F(vfio, follows_the_vcpu)
{
	struct machine *m = &self->m;
	struct kvm_hpkvm_irq irq;

	for (int i = 1; i <= 10; i++) {
		ask(m, LOOK_AT_LAPIC);
		EXPECT_EQ(1, raise_one(m));
		irq = wait_mode(m, KVM_HPKVM_IRQ_MODE_DIRECT);
		EXPECT_EQ(i, irq.ended);
		EXPECT_EQ(i + 1, irq.directed);
		EXPECT_EQ(1, raise_one(m));
	}

	ask(m, UNBIND);
	irq = get_irq(m);
	EXPECT_EQ(KVM_HPKVM_IRQ_MODE_REMAPPED, irq.mode);
	EXPECT_EQ(KVM_HPKVM_IRQ_REASON_NOT_PASSTHROUGH, irq.reason);
	EXPECT_EQ(1, raise_one(m));
}

TEST_F(vfio, policy)
{
	struct machine *m = &self->m;
	struct kvm_hpkvm_irq_policy policy = {
		.gsi = GSI,
		.flags = KVM_HPKVM_IRQ_KEEP_HOST,
	};

	vm_ioctl(m->vm, KVM_HPKVM_SET_IRQ_POLICY, &policy);
	EXPECT_EQ(KVM_HPKVM_IRQ_MODE_REMAPPED, get_irq(m).mode);
	EXPECT_EQ(KVM_HPKVM_IRQ_REASON_POLICY, get_irq(m).reason);
	EXPECT_EQ(1, raise_one(m));
	policy.flags = 0;
	vm_ioctl(m->vm, KVM_HPKVM_SET_IRQ_POLICY, &policy);
	EXPECT_EQ(KVM_HPKVM_IRQ_MODE_DIRECT, get_irq(m).mode);
	EXPECT_EQ(1, raise_one(m));
}

TEST_F(vfio, what_is_not_direct)
{
	struct machine *m = &self->m;
	static const struct {
		uint32_t destination, data, reason;
	} messages[] = {
		{ 0, 0, KVM_HPKVM_IRQ_REASON_VECTOR },
		{ 0, 15, KVM_HPKVM_IRQ_REASON_VECTOR },
		{ 0, 0xf0, KVM_HPKVM_IRQ_REASON_VECTOR },
		{ 0, 0xf5, KVM_HPKVM_IRQ_REASON_VECTOR },
		{ 0, 0xff, KVM_HPKVM_IRQ_REASON_VECTOR },
		{ 0, VECTOR | APIC_DM_SMI, KVM_HPKVM_IRQ_REASON_DELIVERY_MODE },
		{ 0, VECTOR | APIC_DM_NMI, KVM_HPKVM_IRQ_REASON_DELIVERY_MODE },
		{ 0, VECTOR | APIC_DM_INIT, KVM_HPKVM_IRQ_REASON_DELIVERY_MODE },
		{ 0, VECTOR | APIC_DM_EXTINT,
		  KVM_HPKVM_IRQ_REASON_DELIVERY_MODE },
		{ 0, VECTOR | 1 << 15, KVM_HPKVM_IRQ_REASON_DELIVERY_MODE },
		{ 0xff, VECTOR, KVM_HPKVM_IRQ_REASON_TARGETS },
		{ 77, VECTOR, KVM_HPKVM_IRQ_REASON_TARGETS },
		{ 1, VECTOR, KVM_HPKVM_IRQ_REASON_NOT_PASSTHROUGH },
	};

	for (int i = 0; i < ARRAY_SIZE(messages); i++) {
		route(m->vm, messages[i].destination, messages[i].data);
		EXPECT_EQ(KVM_HPKVM_IRQ_MODE_REMAPPED, get_irq(m).mode);
		EXPECT_EQ(messages[i].reason, get_irq(m).reason);
		/* And back, so that each is a change. */
		route(m->vm, 0, VECTOR);
		EXPECT_EQ(KVM_HPKVM_IRQ_MODE_DIRECT, get_irq(m).mode);
	}
	EXPECT_EQ(1, raise_one(m));
}

/* What the device has sent must not reach a core that is the host's. */
static void reaches_nobody(struct machine *m)
{
	usleep(SETTLE_US);
	TEST_ASSERT(!hpkvm_stale_vectors(m->core),
		    "It still interrupts the core, with one of vectors %#x",
		    hpkvm_stale_vectors(m->core));
}

static void unbind(struct machine *m)
{
	ask(m, UNBIND);
	m->bound = false;
}

static void bind_again(struct machine *m)
{
	ask(m, BIND);
	m->bound = true;
}

/* As in the beginning: it goes to the core, and arrives. */
static void is_direct_again(struct machine *m)
{
	route(m->vm, 0, VECTOR);
	TEST_ASSERT_EQ(KVM_HPKVM_IRQ_MODE_DIRECT,
		       wait_mode(m, KVM_HPKVM_IRQ_MODE_DIRECT).mode);
	usleep(SETTLE_US);
	TEST_ASSERT_EQ(1, raise_one(m));
}

/*
 * KVM takes an irqfd whose eventfd was closed apart in a work item of the CPU
 * that closed it, which has to wait for a real-time task there.
 */
static void close_and_unbind_at_once(struct machine *m)
{
	struct sched_param fifo = { .sched_priority = 1 }, none = {};

	TEST_ASSERT(!sched_setscheduler(0, SCHED_FIFO, &fifo),
		    "Can't be a real-time task: %d", errno);
	close_eventfd(m);
	ask_and_wait(m, UNBIND, 0);
	m->bound = false;
	WRITE_ONCE(*m->raise, 1);
	TEST_ASSERT(!hpkvm_stale_vectors(m->core),
		    "It still interrupts the core");
	TEST_ASSERT(!sched_setscheduler(0, SCHED_OTHER, &none),
		    "Can't be an ordinary task: %d", errno);
}

TEST_F(vfio, closed_then_unbound)
{
	struct machine *m = &self->m;

	hpkvm_pin(m->core != 1);
	for (int i = 0; i < 10; i++) {
		route(m->vm, 0, low_vectors[i % ARRAY_SIZE(low_vectors)]);
		ASSERT_EQ(KVM_HPKVM_IRQ_MODE_DIRECT,
			  wait_mode(m, KVM_HPKVM_IRQ_MODE_DIRECT).mode);
		close_and_unbind_at_once(m);

		bind_again(m);
		connect_interrupt(m);
	}
	is_direct_again(m);
}

/*
 * Linux complains of an interrupt that a CPU takes while its descriptor is
 * freed ("unexpected IRQ trap"), with or without dedicated cores.  What a CPU
 * has pending it takes before a thread runs there.
 */
static void let_it_arrive(struct machine *m)
{
	cpu_set_t cpus;

	TEST_ASSERT(!sched_getaffinity(0, sizeof(cpus), &cpus),
		    "Can't read the CPUs of this thread: %d", errno);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &cpus) && cpu != m->core)
			hpkvm_pin(cpu);
	}
	TEST_ASSERT(!sched_setaffinity(0, sizeof(cpus), &cpus),
		    "Can't go back to the CPUs of this thread: %d", errno);
}

static void any_call(struct machine *m, uint64_t *random)
{
	switch (hpkvm_random(random) % 9) {
	case 0:
		close_eventfd(m);
		break;
	case 1:
		close_eventfd(m);
		let_it_arrive(m);
		connect_interrupt(m);
		break;
	case 2:
		set_irqfd(m, KVM_IRQFD_FLAG_DEASSIGN);
		break;
	case 3:
		set_irqfd(m, 0);
		break;
	case 4:
		/* Its pin would interrupt, too. */
		WRITE_ONCE(*m->ack, ~0);
		let_it_arrive(m);
		if (m->has_msi)
			set_trigger(m, false);
		break;
	case 5:
		let_it_arrive(m);
		if (m->eventfd >= 0)
			set_trigger(m, true);
		break;
	case 6:
		route(m->vm, 0, low_vectors[hpkvm_random(random) %
					    ARRAY_SIZE(low_vectors)]);
		break;
	case 7:
		if (m->bound)
			ask(m, LOOK_AT_LAPIC);
		break;
	case 8:
		if (m->bound)
			unbind(m);
		else
			bind_again(m);
		break;
	}
}

/* A VMM may close, disconnect and unbind in any order. */
TEST_F_TIMEOUT(vfio, any_order, 7200)
{
	uint64_t random = hpkvm_setting("HPKVM_SEED", 1);
	int calls = hpkvm_setting("HPKVM_CALLS", NR_CALLS);
	struct machine *m = &self->m;

	for (int i = 0; i < calls; i++) {
		any_call(m, &random);
		if (m->has_msi)
			WRITE_ONCE(*m->raise, 1);
		if (!m->bound)
			reaches_nobody(m);
	}
	if (!m->bound)
		bind_again(m);
	close_eventfd(m);
	let_it_arrive(m);
	connect_interrupt(m);
	is_direct_again(m);
}

/* Which CPUs new interrupts of the host's may go to, as a mask. */
static void set_default_affinity(uint32_t mask)
{
	FILE *f = fopen("/proc/irq/default_smp_affinity", "w");

	TEST_ASSERT(f && fprintf(f, "%x", mask) > 0 && !fclose(f),
		    "Can't set the default affinity to %x: %d", mask, errno);
}

static uint32_t get_default_affinity(void)
{
	FILE *f = fopen("/proc/irq/default_smp_affinity", "r");
	uint32_t mask;

	TEST_ASSERT(f && fscanf(f, "%x", &mask) == 1 && !fclose(f),
		    "Can't read the default affinity: %d", errno);
	return mask;
}

struct leaser {
	struct machine *m;
	pthread_t thread;
	bool stop;
};

static void *lease_and_release(void *arg)
{
	struct leaser *l = arg;

	while (!READ_ONCE(l->stop)) {
		unbind(l->m);
		bind_again(l->m);
	}
	return NULL;
}

static bool eventfd_has_come(int fd)
{
	uint64_t n;

	return read(fd, &n, sizeof(n)) == sizeof(n);
}

/*
 * The host's own interrupt, meant for the core, is set up and torn down while
 * the core is leased and given back.  The device cannot mask it, so that it has
 * its vector, and hardware knows that, before anybody has requested it.
 */
TEST_F_TIMEOUT(vfio, host_irq_amid_leases, 3600)
{
	uint32_t affinity = get_default_affinity();
	int irqs = hpkvm_count(NR_HOST_IRQS), lost = 0;
	struct leaser l = { .m = &self->m };
	struct machine *m = &self->m;

	set_trigger(m, false);
	set_irqfd(m, KVM_IRQFD_FLAG_DEASSIGN);
	close_eventfd(m);
	m->eventfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	set_default_affinity(BIT(m->core));
	ASSERT_EQ(0, pthread_create(&l.thread, NULL, lease_and_release, &l));

	for (int i = 0; i < irqs && !lost; i++) {
		set_trigger(m, true);
		WRITE_ONCE(*m->raise, 1);
		lost += !HPKVM_WAIT(eventfd_has_come(m->eventfd));
		WRITE_ONCE(*m->ack, ~0);
		set_trigger(m, false);
	}
	WRITE_ONCE(l.stop, true);
	EXPECT_EQ(0, pthread_join(l.thread, NULL));
	set_default_affinity(affinity);
	EXPECT_EQ(0, lost);
	/* Nor has the guest had one that is the host's. */
	EXPECT_EQ(0, arrived(m));
}

TEST_HARNESS_MAIN
