// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a processor posts for the vCPUs of other VMs, while a core that they ran
 * on is leased.
 *
 * With IPI virtualization the notification goes to where the vCPU's descriptor
 * says, past all of the kernel's senders.  The vCPU must wake up, or see its
 * interrupt, and the guest that holds the core must see nothing of it.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>

#include "apic.h"
#include "hpkvm.h"
#include "hpkvm_harness.h"

#define SENDER		0
#define RECEIVER	1
#define NR_VCPUS	2

#define MAX_CORES		64

#define VECTOR		0x75
#define FIRST_STRAY	0x20

#define NR_IPIS		40	/* see hpkvm_count() */
#define SOON_SECONDS	5

/* What the receiver does. */
enum mode {
	SPIN,
	HALT,
	LEAVE,			/* to user space, once for each LEAVE */
};

static struct shared {
	uint64_t ready[NR_VCPUS];
	uint64_t mode;
	uint64_t sends;		/* so many have been asked for */
	uint64_t received;
} shared;

/* In the memory of the guest that holds the core. */
static uint64_t strays[256];

struct machine {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpus[NR_VCPUS];
	struct shared *s;
	uint32_t core;
	pid_t receiver;
	uint64_t left;		/* the receiver is in user space */
	struct kvm_vm *holder;
	struct hpkvm_runner runner;
	uint64_t *strays;
};

FIXTURE(pi) {
	struct machine m;
};

/* ---- The guests ---- */

static void guest_handler(struct ex_regs *regs)
{
	WRITE_ONCE(shared.received, shared.received + 1);
	x2apic_write_reg(APIC_EOI, 0);
}

static void guest_sender(void)
{
	uint64_t sent = 0;

	x2apic_enable();
	WRITE_ONCE(shared.ready[SENDER], 1);
	for (;;) {
		if (READ_ONCE(shared.sends) == sent)
			continue;
		sent++;
		x2apic_write_reg(APIC_ICR, (uint64_t)RECEIVER << 32 |
					   APIC_DM_FIXED | VECTOR);
	}
}

static void guest_receiver(void)
{
	x2apic_enable();
	WRITE_ONCE(shared.ready[RECEIVER], 1);
	for (;;) {
		switch (READ_ONCE(shared.mode)) {
		case SPIN:
			asm volatile("sti; nop; cli" : : : "memory");
			break;
		case HALT:
			asm volatile("sti; hlt; cli" : : : "memory");
			break;
		default:
			WRITE_ONCE(shared.mode, SPIN);
			GUEST_SYNC(0);
		}
	}
}

static void stray_handler(struct ex_regs *regs)
{
	strays[regs->vector]++;
	x2apic_write_reg(APIC_EOI, 0);
}

static void guest_holder(void)
{
	x2apic_enable();
	asm volatile("sti");
	for (;;)
		;
}

/* ---- The host ---- */

static void *run_sender(void *arg)
{
	struct machine *m = arg;

	hpkvm_pin(0);
	vcpu_run(m->vcpus[SENDER]);
	TEST_FAIL("The sender ended");
	return NULL;
}

static void *run_receiver(void *arg)
{
	struct machine *m = arg;

	hpkvm_pin(m->core);
	WRITE_ONCE(m->receiver, syscall(SYS_gettid));
	for (;;) {
		vcpu_run(m->vcpus[RECEIVER]);
		WRITE_ONCE(m->left, 1);
		while (READ_ONCE(m->left))
			usleep(1000);
	}
	return NULL;
}

/* It sleeps, as ps says. */
static bool is_asleep(pid_t tid)
{
	char path[64], state = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	file = fopen(path, "r");
	TEST_ASSERT(file && fscanf(file, "%*d (%*[^)]) %c", &state) == 1,
		    "Can't read %s", path);
	fclose(file);
	return state == 'S';
}

/* Nothing but an interrupt ends HALT. */
static void make_receiver(struct machine *m, enum mode mode)
{
	WRITE_ONCE(m->s->mode, mode);
	if (mode == LEAVE)
		HPKVM_WAIT_FOR(m->left, 1);
	TEST_ASSERT(mode != HALT || HPKVM_WAIT(is_asleep(m->receiver)),
		    "It does not fall asleep");
}

static void lease(struct machine *m)
{
	struct kvm_vcpu *vcpu = m->runner.vcpu;
	pthread_t thread;

	m->runner.core = m->core;
	TEST_ASSERT(!pthread_create(&thread, NULL, hpkvm_bind_and_run,
				    &m->runner), "No thread");
	TEST_ASSERT(HPKVM_WAIT(hpkvm_state(vcpu).mode ==
			       KVM_HPKVM_MODE_PASSTHROUGH),
		    "Not in passthrough, reason %u", hpkvm_state(vcpu).reason);
}

static void send(struct shared *s)
{
	WRITE_ONCE(s->sends, s->sends + 1);
}

static void expect_no_strays(struct machine *m)
{
	for (int i = FIRST_STRAY; i < 256; i++)
		TEST_ASSERT(!m->strays[i],
			    "The core's guest got vector %#x %lu times", i,
			    m->strays[i]);
}

static bool has_ipi_virtualization(void)
{
	char on = 'N';
	FILE *file = fopen("/sys/module/kvm_intel/parameters/enable_ipiv", "r");

	if (file) {
		on = fgetc(file);
		fclose(file);
	}
	return on == 'Y';
}

/* A core on which a guest that is alone does not exit for the host's tick. */
static bool find_quiet_core(uint32_t *core)
{
	uint32_t cores[MAX_CORES];
	int nr = hpkvm_find_cores(cores, MAX_CORES);

	for (int i = 0; i < nr; i++) {
		*core = cores[i];
		if (hpkvm_cpu_in_list("/sys/devices/system/cpu/nohz_full",
				      *core))
			return true;
	}
	return false;
}

static void make_holder(struct machine *m)
{
	m->holder = hpkvm_vm_create(1, KVM_HPKVM_F_ALL);
	m->runner.vcpu = vm_vcpu_add(m->holder, 0, guest_holder);
	for (int i = FIRST_STRAY; i < 256; i++)
		vm_install_exception_handler(m->holder, i, stray_handler);
	m->strays = addr_gva2hva(m->holder, (vm_vaddr_t)strays);
}

FIXTURE_SETUP(pi)
{
	struct machine *m = &self->m;
	void *guests[] = { guest_sender, guest_receiver };
	pthread_t thread;

	if (!has_ipi_virtualization())
		SKIP(return, "this host has no IPI virtualization");
	if (!hpkvm_supported() || !find_quiet_core(&m->core))
		SKIP(return, "no nohz_full CPU of this host can be leased");

	m->vm = vm_create(NR_VCPUS);
	for (int i = 0; i < NR_VCPUS; i++)
		m->vcpus[i] = vm_vcpu_add(m->vm, i, guests[i]);
	vm_install_exception_handler(m->vm, VECTOR, guest_handler);
	m->s = addr_gva2hva(m->vm, (vm_vaddr_t)&shared);
	make_holder(m);

	ASSERT_EQ(0, pthread_create(&thread, NULL, run_sender, m));
	ASSERT_EQ(0, pthread_create(&thread, NULL, run_receiver, m));
	for (int i = 0; i < NR_VCPUS; i++)
		HPKVM_WAIT_FOR(m->s->ready[i], 1);
}

/* The guests never end: the process does, and with it all else. */
FIXTURE_TEARDOWN(pi)
{
}

/* Notifications went to the core's wake-up list, and no thread runs there. */
TEST_F_TIMEOUT(pi, asleep_before_the_lease, 60 * PATIENCE)
{
	struct machine *m = &self->m;
	cpu_set_t elsewhere;

	make_receiver(m, HALT);
	CPU_ZERO(&elsewhere);
	CPU_SET(1, &elsewhere);
	ASSERT_EQ(0, sched_setaffinity(m->receiver, sizeof(elsewhere),
				       &elsewhere));
	lease(m);
	send(m->s);
	HPKVM_WAIT_FOR(m->s->received, 1);
	expect_no_strays(m);
}

/* The leased core's own thread is not the only one that may run there. */
TEST_F_TIMEOUT(pi, asleep_after_the_lease, 120 * PATIENCE)
{
	struct machine *m = &self->m;
	int ipis = hpkvm_count(NR_IPIS);

	lease(m);
	for (int i = 1; i <= ipis; i++) {
		make_receiver(m, HALT);
		send(m->s);
		HPKVM_WAIT_FOR(m->s->received, i);
	}
	expect_no_strays(m);
}

/*
 * Nothing else runs there, so that nothing but a kick makes it exit soon: all
 * together are as quick as one would be that has to wait for an accident.
 */
TEST_F_TIMEOUT(pi, running_after_the_lease, 120 * PATIENCE)
{
	struct machine *m = &self->m;
	int ipis = hpkvm_count(NR_IPIS);
	struct timespec begin;

	ASSERT_EQ(0, hpkvm_bind(m->runner.vcpu, m->core, NULL));
	hpkvm_pin(1);
	usleep(100000);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (int i = 1; i <= ipis; i++) {
		send(m->s);
		HPKVM_WAIT_FOR(m->s->received, i);
	}
	ASSERT_GE(SOON_SECONDS, timespec_elapsed(begin).tv_sec);
}

/* Its descriptor still names the core. */
TEST_F_TIMEOUT(pi, outside_during_the_lease, 60 * PATIENCE)
{
	struct machine *m = &self->m;

	make_receiver(m, LEAVE);
	lease(m);
	send(m->s);
	/* Whatever it is that the processor does about that. */
	usleep(100000);
	ASSERT_EQ(0, m->s->received);
	expect_no_strays(m);
	WRITE_ONCE(m->left, 0);
	HPKVM_WAIT_FOR(m->s->received, 1);
}

/* The core is the host's again while the vCPU is on it. */
TEST_F_TIMEOUT(pi, after_the_release, 120 * PATIENCE)
{
	struct machine *m = &self->m;
	int ipis = hpkvm_count(NR_IPIS);

	ASSERT_EQ(0, hpkvm_bind(m->runner.vcpu, m->core, NULL));
	hpkvm_pin(1);
	/* It spins, and has been there for some time. */
	usleep(100000);
	ASSERT_EQ(0, hpkvm_unbind(m->runner.vcpu));
	for (int i = 1; i <= 2 * ipis; i++) {
		if (i == ipis)
			make_receiver(m, HALT);
		send(m->s);
		HPKVM_WAIT_FOR(m->s->received, i);
	}
}

/* All but the first, and the core itself. */
static void set_others_online(uint32_t core, bool online)
{
	for (int cpu = get_nprocs_conf() - 1; cpu > 0; cpu--) {
		if (cpu != core)
			TEST_ASSERT(hpkvm_set_online(cpu, online),
				    "CPU %d can't go on or off line", cpu);
	}
}

/* Whichever of them it is that takes the core's notifications. */
TEST_F_TIMEOUT(pi, deputy_goes_offline, 120 * PATIENCE)
{
	struct machine *m = &self->m;

	ASSERT_EQ(0, hpkvm_bind(m->runner.vcpu, m->core, NULL));
	hpkvm_pin(0);
	usleep(100000);
	set_others_online(m->core, false);
	send(m->s);
	HPKVM_WAIT_FOR(m->s->received, 1);
	set_others_online(m->core, true);

	make_receiver(m, HALT);
	set_others_online(m->core, false);
	send(m->s);
	HPKVM_WAIT_FOR(m->s->received, 2);
	set_others_online(m->core, true);
}

TEST_HARNESS_MAIN
