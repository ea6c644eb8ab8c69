// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hostile VMM: calls KVM_HPKVM_* and all that touches the same state with
 * random arguments, from threads that run the vCPUs and threads that do not,
 * while the guests run; moves, signals, stops and kills its threads; takes
 * CPUs offline; forks; closes descriptors in any order.
 *
 * It is a sequence of rounds.  Each is a process of its own with VMs of its
 * own, and may end in any way; what is checked is what it leaves to the host:
 * no VM, no lease, and cores that work.  Within a round, only what no random
 * call may change is checked: errno against reason, and the shape of the state.
 *
 * HPKVM_SEED and HPKVM_CALLS in the environment choose the calls and how many.
 * A seed repeats every thread's calls, not how the threads mix.  Needs root,
 * debugfs, and a host that can lease a CPU.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/compiler.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define NR_CALLS	100000
#define CALLS_PER_ROUND	5000

#define MAX_CORES	8
#define NR_VMS		3
#define NR_VCPUS	2	/* of each VM */
#define NR_TARGETS	(NR_VMS * NR_VCPUS)
#define NR_ATTACKERS	3	/* threads that no vCPU belongs to */
#define NR_ACTORS	(NR_TARGETS + NR_ATTACKERS)
#define NR_MSRS		4
#define NR_EVENTS	4

/* From a round's end until nothing of it is left. */
#define MAX_MS		10000
/* A round takes some seconds in an emulated host. */
#define MAX_ROUND_MS	120000

/* One vCPU, and what it takes to start it anew. */
struct target {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	uint32_t features;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_lapic_state lapic;
};

/* One thread. */
struct actor {
	uint64_t random;
	struct target *own;	/* the vCPU that it runs, or NULL */
	pid_t tid;
	pthread_t thread;
};

struct call;

/* Shared by all rounds and the parent. */
struct tally {
	uint64_t calls;
	uint64_t promotions;
	uint64_t offlined;
	uint64_t stayed_online;
	uint64_t forks;
	bool has_vms;		/* of the present round */
	uint64_t of_call[64];
	uint64_t succeeded[64];
	char trouble[256];
};

static struct tally *tally;
static uint32_t cores[MAX_CORES];
static unsigned int nr_cores;
static struct target targets[NR_TARGETS];
static struct actor actors[NR_ACTORS];
static int eventfds[NR_EVENTS];
static uint64_t round_goal;
static bool stop;

/* The first one is reported; ends the round. */
static void __noreturn __printf(1, 2)
trouble(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!tally->trouble[0])
		vsnprintf(tally->trouble, sizeof(tally->trouble), format, args);
	va_end(args);
	_exit(1);
}

static uint32_t pick(struct actor *a, uint32_t n)
{
	return hpkvm_random(&a->random) % n;
}

static bool one_in(struct actor *a, uint32_t n)
{
	return !pick(a, n);
}

/* Mostly numbers with a meaning somewhere. */
static uint64_t pick_value(struct actor *a)
{
	switch (pick(a, 6)) {
	case 0:
		return 0;
	case 1:
		return pick(a, 256);
	case 2:
		return BIT_ULL(pick(a, 64));
	case 3:
		return rdtsc() + pick(a, 1 << 20);
	case 4:
		return hpkvm_random(&a->random);
	default:
		return (uint64_t)hpkvm_random(&a->random) << 32 |
		       hpkvm_random(&a->random);
	}
}

static uint32_t pick_cpu(struct actor *a)
{
	return one_in(a, 8) ? pick_value(a) : cores[pick(a, nr_cores)];
}

static int vcpu_call(struct target *t, unsigned long cmd, void *arg)
{
	return ioctl(t->vcpu->fd, cmd, arg);
}

/* ---- KVM_HPKVM_* ---- */

static const struct {
	uint32_t reason;
	int err;
} refusals[] = {
	{ KVM_HPKVM_REASON_NONE, 0 },
	{ KVM_HPKVM_REASON_NOT_ENABLED, ENOTTY },
	{ KVM_HPKVM_REASON_BAD_FLAGS, EINVAL },
	{ KVM_HPKVM_REASON_ALREADY_BOUND, EALREADY },
	{ KVM_HPKVM_REASON_CPU_INVALID, EINVAL },
	{ KVM_HPKVM_REASON_CPU_OFFLINE, ENODEV },
	{ KVM_HPKVM_REASON_CPU_LEASED, EBUSY },
	{ KVM_HPKVM_REASON_CPU_LAST, EBUSY },
	{ KVM_HPKVM_REASON_CPU_NOT_ALLOWED, EPERM },
	{ KVM_HPKVM_REASON_CPU_IRQ, EBUSY },
	{ KVM_HPKVM_REASON_NO_PERMISSION, EPERM },
	{ KVM_HPKVM_REASON_NO_VECTORS, ENOSPC },
	{ KVM_HPKVM_REASON_CPU_TIMEKEEPER, EBUSY },
	{ KVM_HPKVM_REASON_CPU_STALE, EIO },
};

static void check_refusal(const struct kvm_hpkvm_bind *bind, int err)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(refusals); i++) {
		if (refusals[i].reason == bind->reason && refusals[i].err == err)
			return;
	}
	/* A descriptor that another thread has closed, or a dead VM. */
	if (bind->reason == ~0u && (err == EBADF || err == EIO || err == ENOTTY))
		return;
	trouble("bind to CPU %u: errno %d with reason %u", bind->cpu, err,
		bind->reason);
}

static int call_bind(struct actor *a, struct target *t)
{
	struct kvm_hpkvm_bind bind = { .cpu = pick_cpu(a), .reason = ~0u };
	int ret;

	if (one_in(a, 16))
		bind.flags = pick_value(a);
	if (one_in(a, 16))
		bind.reserved[pick(a, 4)] = pick_value(a);
	if (one_in(a, 32))
		return vcpu_call(t, KVM_HPKVM_BIND, (void *)pick_value(a));
	ret = vcpu_call(t, KVM_HPKVM_BIND, &bind);
	check_refusal(&bind, ret ? errno : 0);
	return ret;
}

static int call_unbind(struct actor *a, struct target *t)
{
	return vcpu_call(t, KVM_HPKVM_UNBIND, (void *)pick_value(a));
}

static int call_get_state(struct actor *a, struct target *t)
{
	struct kvm_hpkvm_state s = { .mode = ~0u };
	bool unbound;

	if (one_in(a, 32))
		return vcpu_call(t, KVM_HPKVM_GET_STATE, NULL);
	if (vcpu_call(t, KVM_HPKVM_GET_STATE, &s))
		return -1;
	unbound = s.mode == KVM_HPKVM_MODE_UNBOUND;
	if (s.mode > KVM_HPKVM_MODE_PASSTHROUGH ||
	    unbound != (s.cpu == ~0u) ||
	    s.reason >= KVM_HPKVM_REASON_MAX || s.reserved[0] ||
	    s.features != t->features)
		trouble("state: mode %u, CPU %u, reason %u, features %#x (%#x)",
			s.mode, s.cpu, s.reason, s.features, t->features);
	return 0;
}

/* Numbers next to ours, and ours with other sizes. */
static int call_neighbour(struct actor *a, struct target *t)
{
	char buffer[512] = {};

	return vcpu_call(t, _IOC(pick(a, 4), 0xae, 0xf0 + pick(a, 16),
				 pick(a, sizeof(buffer))), buffer);
}

static int call_enable_cap(struct actor *a, struct target *t)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X86_HPKVM,
		.args[0] = one_in(a, 2) ? KVM_HPKVM_F_ALL : pick_value(a),
	};

	if (!ioctl(t->vm->fd, KVM_ENABLE_CAP, &cap))
		trouble("the capability was enabled after the vCPUs");
	return -1;
}

/* ---- what demotes, and what leaves something to promote ---- */

static int call_get_lapic(struct actor *a, struct target *t)
{
	struct kvm_lapic_state lapic;

	return vcpu_call(t, KVM_GET_LAPIC, &lapic);
}

static int call_set_lapic(struct actor *a, struct target *t)
{
	static const uint16_t interesting[] = {
		APIC_TASKPRI, APIC_LVTT, APIC_TMICT, APIC_TDCR, APIC_SPIV,
		APIC_ISR, APIC_IRR, APIC_TMR, APIC_ID, APIC_LDR,
	};
	struct kvm_lapic_state lapic;
	unsigned int reg, n;

	if (vcpu_call(t, KVM_GET_LAPIC, &lapic))
		return -1;
	for (n = pick(a, 4); n; n--) {
		reg = interesting[pick(a, ARRAY_SIZE(interesting))];
		if (reg == APIC_ISR || reg == APIC_IRR || reg == APIC_TMR)
			reg += 0x10 * pick(a, 8);
		*(uint32_t *)(lapic.regs + reg) = pick_value(a);
	}
	return vcpu_call(t, KVM_SET_LAPIC, &lapic);
}

static uint32_t pick_msr(struct actor *a)
{
	static const uint32_t interesting[] = {
		MSR_IA32_APICBASE, MSR_IA32_TSC_DEADLINE, MSR_IA32_TSC,
		MSR_IA32_TSC_ADJUST, MSR_EFER,
	};

	return one_in(a, 2) ? 0x800 + pick(a, 0x40) :
			      interesting[pick(a, ARRAY_SIZE(interesting))];
}

static int call_msrs(struct actor *a, struct target *t, unsigned long cmd)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entries[NR_MSRS];
	} msrs = { .head.nmsrs = 1 + pick(a, NR_MSRS) };
	unsigned int i;

	for (i = 0; i < msrs.head.nmsrs; i++) {
		msrs.entries[i].index = pick_msr(a);
		msrs.entries[i].data = pick_value(a);
	}
	return vcpu_call(t, cmd, &msrs) == msrs.head.nmsrs ? 0 : -1;
}

static int call_get_msrs(struct actor *a, struct target *t)
{
	return call_msrs(a, t, KVM_GET_MSRS);
}

static int call_set_msrs(struct actor *a, struct target *t)
{
	return call_msrs(a, t, KVM_SET_MSRS);
}

static int call_get_sregs(struct actor *a, struct target *t)
{
	struct kvm_sregs sregs;

	return vcpu_call(t, KVM_GET_SREGS, &sregs);
}

static int call_set_sregs(struct actor *a, struct target *t)
{
	struct kvm_sregs sregs;

	if (vcpu_call(t, KVM_GET_SREGS, &sregs))
		return -1;
	if (one_in(a, 2))
		sregs.apic_base ^= MSR_IA32_APICBASE_ENABLE;
	if (one_in(a, 2))
		sregs.apic_base ^= X2APIC_ENABLE;
	if (one_in(a, 4))
		sregs.cr8 = pick(a, 16);
	if (one_in(a, 8))
		sregs.interrupt_bitmap[pick(a, 4)] = BIT_ULL(pick(a, 64));
	return vcpu_call(t, KVM_SET_SREGS, &sregs);
}

static int call_events(struct actor *a, struct target *t)
{
	struct kvm_vcpu_events events;

	if (vcpu_call(t, KVM_GET_VCPU_EVENTS, &events))
		return -1;
	if (one_in(a, 2)) {
		events.interrupt.injected = 1;
		events.interrupt.nr = pick(a, 256);
	}
	return vcpu_call(t, KVM_SET_VCPU_EVENTS, &events);
}

static int call_interrupt(struct actor *a, struct target *t)
{
	struct kvm_interrupt irq = { .irq = pick(a, 300) };

	return vcpu_call(t, KVM_INTERRUPT, &irq);
}

static int call_nmi(struct actor *a, struct target *t)
{
	return vcpu_call(t, KVM_NMI, NULL);
}

static int call_get_mp_state(struct actor *a, struct target *t)
{
	struct kvm_mp_state state;

	return vcpu_call(t, KVM_GET_MP_STATE, &state);
}

static int call_set_mp_state(struct actor *a, struct target *t)
{
	struct kvm_mp_state state = { .mp_state = pick(a, 12) };

	return vcpu_call(t, KVM_SET_MP_STATE, &state);
}

static int call_set_cpuid(struct actor *a, struct target *t)
{
	struct kvm_cpuid2 *cpuid = t->vcpu->cpuid;
	size_t size = sizeof(*cpuid) + cpuid->nent * sizeof(cpuid->entries[0]);
	struct kvm_cpuid2 *copy = malloc(size);
	unsigned int i;
	int ret;

	memcpy(copy, cpuid, size);
	for (i = 0; i < copy->nent && one_in(a, 2); i++) {
		if (copy->entries[i].function == 1)
			copy->entries[i].ecx ^= BIT(21) | BIT(24);
	}
	ret = vcpu_call(t, KVM_SET_CPUID2, copy);
	free(copy);
	return ret;
}

static int call_set_tsc_khz(struct actor *a, struct target *t)
{
	return vcpu_call(t, KVM_SET_TSC_KHZ,
			 (void *)(one_in(a, 2) ? 0 : pick_value(a)));
}

static int call_guest_debug(struct actor *a, struct target *t)
{
	struct kvm_guest_debug debug = {
		.control = one_in(a, 2) ? 0 : KVM_GUESTDBG_ENABLE |
					      KVM_GUESTDBG_SINGLESTEP,
	};

	return vcpu_call(t, KVM_SET_GUEST_DEBUG, &debug);
}

/* Deny the deadline, or nothing. */
static int call_msr_filter(struct actor *a, struct target *t)
{
	uint8_t deny = 0;
	struct kvm_msr_filter filter = {
		.ranges[0] = {
			.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
			.base = MSR_IA32_TSC_DEADLINE,
			.nmsrs = one_in(a, 2),
			.bitmap = &deny,
		},
	};

	return ioctl(t->vm->fd, KVM_X86_SET_MSR_FILTER, &filter);
}

static int call_signal_msi(struct actor *a, struct target *t)
{
	struct kvm_msi msi = {
		.address_lo = 0xfee00000 | pick(a, 256) << 12 |
			      pick(a, 4) << 2,
		.data = pick(a, 1 << 16),
	};

	return ioctl(t->vm->fd, KVM_SIGNAL_MSI, &msi);
}

static int call_irq_line(struct actor *a, struct target *t)
{
	struct kvm_irq_level line = { .irq = pick(a, 24), .level = pick(a, 2) };

	return ioctl(t->vm->fd, KVM_IRQ_LINE, &line);
}

/* An irqfd comes or goes; nothing of VFIO's is behind it. */
static int call_irqfd(struct actor *a, struct target *t)
{
	struct kvm_irqfd irqfd = {
		.fd = eventfds[pick(a, NR_EVENTS)],
		.gsi = pick(a, 24),
		.flags = one_in(a, 2) ? KVM_IRQFD_FLAG_DEASSIGN : 0,
	};

	return ioctl(t->vm->fd, KVM_IRQFD, &irqfd);
}

static int call_get_irq(struct actor *a, struct target *t)
{
	struct kvm_hpkvm_irq irq = {
		.gsi = pick(a, 32),
		.flags = one_in(a, 8),
	};

	return ioctl(t->vm->fd, KVM_HPKVM_GET_IRQ,
		     one_in(a, 32) ? NULL : &irq);
}

static int call_irq_policy(struct actor *a, struct target *t)
{
	struct kvm_hpkvm_irq_policy policy = {
		.gsi = pick(a, 32),
		.flags = pick(a, 4),
	};

	return ioctl(t->vm->fd, KVM_HPKVM_SET_IRQ_POLICY,
		     one_in(a, 32) ? NULL : &policy);
}

/* Of anybody's vCPU, on whatever CPU this is. */
static int call_run(struct actor *a, struct target *t)
{
	return vcpu_call(t, KVM_RUN, NULL);
}

/* ---- what is done to the threads ---- */

static int call_kick(struct actor *a, struct target *t)
{
	return syscall(__NR_tgkill, getpid(), actors[pick(a, NR_ACTORS)].tid,
		       SIGUSR1);
}

static int call_move(struct actor *a, struct target *t)
{
	cpu_set_t set;
	int n;

	CPU_ZERO(&set);
	for (n = 1 + pick(a, 3); n; n--)
		CPU_SET(one_in(a, 4) ? 0 : cores[pick(a, nr_cores)], &set);
	return sched_setaffinity(actors[pick(a, NR_ACTORS)].tid, sizeof(set),
				 &set);
}

static const struct call {
	const char *name;
	unsigned int weight;
	int (*call)(struct actor *a, struct target *t);
} calls[] = {
	{ "bind", 20, call_bind },
	{ "unbind", 12, call_unbind },
	{ "get_state", 20, call_get_state },
	{ "neighbour", 4, call_neighbour },
	{ "enable_cap", 3, call_enable_cap },
	{ "get_lapic", 4, call_get_lapic },
	{ "set_lapic", 8, call_set_lapic },
	{ "get_msrs", 4, call_get_msrs },
	{ "set_msrs", 8, call_set_msrs },
	{ "get_sregs", 3, call_get_sregs },
	{ "set_sregs", 4, call_set_sregs },
	{ "events", 3, call_events },
	{ "interrupt", 3, call_interrupt },
	{ "nmi", 1, call_nmi },
	{ "get_mp_state", 3, call_get_mp_state },
	{ "set_mp_state", 4, call_set_mp_state },
	{ "set_cpuid", 2, call_set_cpuid },
	{ "set_tsc_khz", 1, call_set_tsc_khz },
	{ "guest_debug", 2, call_guest_debug },
	{ "msr_filter", 2, call_msr_filter },
	{ "signal_msi", 4, call_signal_msi },
	{ "irq_line", 2, call_irq_line },
	{ "irqfd", 1, call_irqfd },
	{ "get_irq", 2, call_get_irq },
	{ "irq_policy", 2, call_irq_policy },
	{ "run", 4, call_run },
	{ "kick", 6, call_kick },
	{ "move", 6, call_move },
};

static void call_one(struct actor *a)
{
	struct target *t = &targets[pick(a, NR_TARGETS)];
	static unsigned int total;
	unsigned int i, n;

	if (!total) {
		for (i = 0, n = 0; i < ARRAY_SIZE(calls); i++)
			n += calls[i].weight;
		total = n;
	}
	/* A runner mostly does it to itself. */
	if (a->own && !one_in(a, 4))
		t = a->own;
	n = pick(a, total);
	for (i = 0; n >= calls[i].weight; i++)
		n -= calls[i].weight;

	if (!calls[i].call(a, t))
		__atomic_fetch_add(&tally->succeeded[i], 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&tally->of_call[i], 1, __ATOMIC_RELAXED);
	__atomic_fetch_add(&tally->calls, 1, __ATOMIC_RELAXED);
}

/* ---- a round ---- */

/* Whatever the calls have made of the vCPU: back to its first instruction. */
static void revive(struct target *t)
{
	struct kvm_mp_state mp_state = { .mp_state = KVM_MP_STATE_RUNNABLE };
	struct kvm_vcpu_events events = {};
	struct kvm_guest_debug debug = {};

	vcpu_call(t, KVM_SET_GUEST_DEBUG, &debug);
	vcpu_call(t, KVM_SET_VCPU_EVENTS, &events);
	vcpu_call(t, KVM_SET_SREGS, &t->sregs);
	vcpu_call(t, KVM_SET_REGS, &t->regs);
	vcpu_call(t, KVM_SET_LAPIC, &t->lapic);
	vcpu_call(t, KVM_SET_MP_STATE, &mp_state);
}

static void *act(void *arg)
{
	struct actor *a = arg;
	unsigned int n;

	WRITE_ONCE(a->tid, gettid());
	if (a->own && !one_in(a, 4))
		call_bind(a, a->own);
	while (!READ_ONCE(stop)) {
		if (a->own) {
			/* Interrupted, it may have to wait for a SIPI now. */
			if (!vcpu_call(a->own, KVM_RUN, NULL) ||
			    errno != EINTR || one_in(a, 4))
				revive(a->own);
		}
		for (n = 1 + pick(a, 8); n; n--)
			call_one(a);
	}
	return NULL;
}

static void handle_kick(int signal)
{
}

static void kick_all(void)
{
	unsigned int i;

	for (i = 0; i < NR_ACTORS; i++)
		syscall(__NR_tgkill, getpid(), actors[i].tid, SIGUSR1);
}

static void add_vm(unsigned int nr, uint32_t features)
{
	struct kvm_vm *vm = vm_create(NR_VCPUS);
	unsigned int i;

	if (features)
		vm_enable_cap(vm, KVM_CAP_X86_HPKVM, features);
	for (i = 0; i < NR_VCPUS; i++) {
		struct target *t = &targets[nr * NR_VCPUS + i];

		t->vm = vm;
		t->vcpu = hpkvm_busy_vcpu(vm, i);
		t->features = features;
		vcpu_regs_get(t->vcpu, &t->regs);
		vcpu_sregs_get(t->vcpu, &t->sregs);
		vcpu_ioctl(t->vcpu, KVM_GET_LAPIC, &t->lapic);
	}
}

static void start_actors(struct actor *a)
{
	unsigned int i;

	for (i = 0; i < NR_ACTORS; i++) {
		actors[i].random = a->random ^ (i + 1) << 8;
		actors[i].own = i < NR_TARGETS ? &targets[i] : NULL;
		TEST_ASSERT(!pthread_create(&actors[i].thread, NULL, act,
					    &actors[i]),
			    "Can't create a thread");
	}
	for (i = 0; i < NR_ACTORS; i++) {
		while (!READ_ONCE(actors[i].tid))
			usleep(100);
	}
}

/* Also while others use them.  What is left, the process' end closes. */
static void close_some(struct actor *a)
{
	unsigned int n;

	for (n = pick(a, 2 * NR_TARGETS); n; n--) {
		struct target *t = &targets[pick(a, NR_TARGETS)];

		switch (pick(a, 3)) {
		case 0:
			close(t->vm->fd);
			break;
		case 1:
			close(t->vcpu->fd);
			break;
		default:
			munmap(t->vcpu->run, getpagesize());
		}
	}
}

/*
 * A child has the descriptors, but not the memory: KVM refuses it all.  It may
 * outlive its parent, and the leases with it.
 */
static void fork_one(struct actor *a)
{
	struct target *t = &targets[pick(a, NR_TARGETS)];
	struct kvm_hpkvm_state state;
	pid_t pid = fork();

	if (pid < 0)
		return;
	if (pid) {
		tally->forks++;
		return;
	}
	if (!vcpu_call(t, KVM_HPKVM_GET_STATE, &state) ||
	    !vcpu_call(t, KVM_HPKVM_UNBIND, NULL) || errno != EIO)
		trouble("a child may use its parent's vCPU: errno %d", errno);
	usleep(pick(a, 200000));
	close_some(a);
	_exit(0);
}

static void hotplug_one(struct actor *a)
{
	uint32_t cpu = cores[pick(a, nr_cores)];

	if (hpkvm_set_online(cpu, false)) {
		tally->offlined++;
		usleep(pick(a, 20000));
		hpkvm_set_online(cpu, true);
	} else {
		tally->stayed_online++;
	}
}

/* Until the round has had its calls: what the kernel sees as the user's. */
static void disturb(struct actor *a)
{
	while (READ_ONCE(tally->calls) < round_goal) {
		usleep(1000 + pick(a, 4000));
		kick_all();
		if (one_in(a, 60))
			fork_one(a);
		if (one_in(a, 80))
			hotplug_one(a);
	}
}

static void join_actors(void)
{
	unsigned int i;

	WRITE_ONCE(stop, true);
	for (i = 0; i < NR_ACTORS; i++) {
		while (pthread_tryjoin_np(actors[i].thread, NULL)) {
			syscall(__NR_tgkill, getpid(), actors[i].tid, SIGUSR1);
			usleep(1000);
		}
	}
}

/* Nothing runs any more: one core, one vCPU. */
static void check_leases(void)
{
	struct kvm_hpkvm_state state;
	uint64_t seen = 0;
	unsigned int i;

	for (i = 0; i < NR_TARGETS; i++) {
		if (vcpu_call(&targets[i], KVM_HPKVM_GET_STATE, &state))
			continue;
		tally->promotions += state.promotions;
		if (state.mode == KVM_HPKVM_MODE_UNBOUND)
			continue;
		if (seen & BIT_ULL(state.cpu))
			trouble("CPU %u is leased twice", state.cpu);
		seen |= BIT_ULL(state.cpu);
	}
}

static void __noreturn play_round(uint64_t seed)
{
	uint32_t all = kvm_check_cap(KVM_CAP_X86_HPKVM);
	struct actor self = { .random = seed };
	unsigned int i;

	for (i = 0; i < NR_EVENTS; i++)
		eventfds[i] = eventfd(0, EFD_CLOEXEC);
	signal(SIGUSR1, handle_kick);
	signal(SIGCHLD, SIG_IGN);
	add_vm(0, all);
	add_vm(1, KVM_HPKVM_F_DIRECT_IRQ | (hpkvm_random(&self.random) & all));
	add_vm(2, 0);
	WRITE_ONCE(tally->has_vms, true);
	start_actors(&self);
	disturb(&self);
	if (one_in(&self, 2)) {
		close_some(&self);
		_exit(0);
	}
	join_actors();
	check_leases();
	close_some(&self);
	_exit(0);
}

FIXTURE(fuzz) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	struct actor self;
	int nr_vms;
};

FIXTURE_SETUP(fuzz)
{
	if (!hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	nr_cores = hpkvm_find_cores(cores, MAX_CORES);
	if (!nr_cores)
		SKIP(return, "no CPU of this host can be leased");

	tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, tally);
	self->vm = hpkvm_vm_create(1, KVM_HPKVM_F_DIRECT_IRQ);
	self->vcpu = vm_vcpu_add(self->vm, 0, NULL);
	self->nr_vms = hpkvm_nr_vms();
}

FIXTURE_TEARDOWN(fuzz)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

static long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return timespec_to_ns(now) / 1000000;
}

static void __printf(1, 2) complain(const char *format, ...)
{
	va_list args;

	fprintf(stderr, "# after %lu calls, ", tally->calls);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
}

/* Even SIGKILL does not end a thread that is stuck in the kernel. */
static bool end_round(pid_t pid)
{
	long end = now_ms() + MAX_MS;

	complain("a round does not end\n");
	kill(pid, SIGKILL);
	while (!waitpid(pid, NULL, WNOHANG)) {
		if (now_ms() > end) {
			complain("nor does SIGKILL end it\n");
			break;
		}
		usleep(10000);
	}
	return false;
}

/*
 * Stop it now and then, and kill it for ever in one round of four.  Returns
 * whether it ended as it may.  Not before it has its VMs: KVM_CREATE_VM fails
 * with EINTR if the process has to stop (mm_take_all_locks()).
 */
static bool follow_round(struct actor *a, pid_t pid)
{
	long begin = now_ms(), kill_at = one_in(a, 4) ? pick(a, 3000) : LONG_MAX;
	int status;

	while (!waitpid(pid, &status, WNOHANG)) {
		long ms = now_ms() - begin;

		if (ms > MAX_ROUND_MS)
			return end_round(pid);
		if (ms > kill_at)
			kill(pid, SIGKILL);
		if (READ_ONCE(tally->has_vms) && one_in(a, 50)) {
			kill(pid, SIGSTOP);
			usleep(pick(a, 30000));
			kill(pid, SIGCONT);
		}
		usleep(10000);
	}
	return WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL :
				     !WEXITSTATUS(status);
}

static bool vms_are_gone(int nr_vms)
{
	long end = now_ms() + MAX_MS;

	while (hpkvm_nr_vms() != nr_vms) {
		if (now_ms() > end) {
			complain("%d VMs, were %d\n", hpkvm_nr_vms(), nr_vms);
			return false;
		}
		usleep(10000);
	}
	return true;
}

static bool all_can_be_leased(struct kvm_vcpu *vcpu)
{
	unsigned int i;

	for (i = 0; i < nr_cores; i++) {
		/* The round may have died with a CPU offline. */
		hpkvm_set_online(cores[i], true);
		if (hpkvm_wait_leasable(vcpu, cores[i], MAX_MS) < 0)
			return false;
	}
	return true;
}

static void print_tally(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(calls); i++)
		ksft_print_msg("%-13s %6lu calls, %6lu succeeded\n",
			       calls[i].name, tally->of_call[i],
			       tally->succeeded[i]);
	ksft_print_msg("%lu calls, %lu promotions, %lu forks\n", tally->calls,
		       tally->promotions, tally->forks);
	ksft_print_msg("CPUs were taken offline %lu times, refused %lu times\n",
		       tally->offlined, tally->stayed_online);
}

TEST_F_TIMEOUT(fuzz, random_calls, 1200 * PATIENCE)
{
	uint64_t seed = hpkvm_setting("HPKVM_SEED", 1);
	uint64_t goal = hpkvm_setting("HPKVM_CALLS", NR_CALLS);
	unsigned int round, i;
	pid_t pid;

	self->self.random = seed;
	for (round = 0; tally->calls < goal; round++) {
		round_goal = tally->calls + CALLS_PER_ROUND;
		WRITE_ONCE(tally->has_vms, false);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			play_round(seed + (uint64_t)round * 0x9e3779b9);
		ASSERT_TRUE(follow_round(&self->self, pid)) {
			TH_LOG("round %u: %s", round, tally->trouble);
		}
		ASSERT_TRUE(vms_are_gone(self->nr_vms)) {
			TH_LOG("after round %u", round);
		}
		ASSERT_TRUE(all_can_be_leased(self->vcpu)) {
			TH_LOG("after round %u", round);
		}
	}
	EXPECT_STREQ("", tally->trouble);

	print_tally();
	for (i = 0; i < ARRAY_SIZE(calls); i++)
		EXPECT_LT(0, tally->of_call[i]);
	EXPECT_LT(round, tally->promotions);
	EXPECT_LT(0, tally->forks);
	EXPECT_LT(0, tally->offlined);
	EXPECT_LT(0, tally->stayed_online);
	for (i = 0; i < nr_cores; i++)
		EXPECT_STREQ("works", hpkvm_check_core(cores[i]));
	EXPECT_STREQ("works", hpkvm_check_core(0));
}

TEST_HARNESS_MAIN
