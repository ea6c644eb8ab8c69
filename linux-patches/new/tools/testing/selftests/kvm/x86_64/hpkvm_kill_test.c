// SPDX-License-Identifier: GPL-2.0-only
/*
 * SIGKILL of a process with dedicated cores, at any instant of its life: from
 * before its first ioctl until its guests run.  Its cores are free again at
 * once, and work.
 *
 * HPKVM_SEED and HPKVM_ROUNDS in the environment choose the instants and how
 * many.  Needs root, debugfs, and a host that can lease two CPUs.
 */
#define _GNU_SOURCE
#include <linux/compiler.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "hpkvm.h"
#include "hpkvm_harness.h"

#define NR_VCPUS	2
#define NR_ROUNDS	200

/* From SIGKILL to the next lease.  An emulated host takes tens of ms. */
#define MAX_MS		5000

/* What a victim has reached, as it says itself. */
enum stage {
	STAGE_BORN,
	STAGE_VM,
	STAGE_BINDING,
	STAGE_BOUND,
	STAGE_RUNNING,
	NR_STAGES
};

static const char * const stage_names[] = {
	"born", "has a VM", "binds", "is bound", "runs",
};

FIXTURE(kill) {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	uint32_t cores[NR_VCPUS];
	uint32_t *stage;	/* shared with the victim */
	int nr_vms;
	long slowest;		/* ms */
};

FIXTURE_SETUP(kill)
{
	if (!hpkvm_supported())
		SKIP(return, "this kernel or host has no KVM_CAP_X86_HPKVM");
	if (hpkvm_find_cores(self->cores, NR_VCPUS) < NR_VCPUS)
		SKIP(return, "the host can't lease %d CPUs", NR_VCPUS);

	self->stage = mmap(NULL, getpagesize(), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->stage);
	self->vm = hpkvm_vm_create(1, KVM_HPKVM_F_DIRECT_IRQ);
	self->vcpu = vm_vcpu_add(self->vm, 0, NULL);
	self->nr_vms = hpkvm_nr_vms();
}

FIXTURE_TEARDOWN(kill)
{
	if (self->vm)
		kvm_vm_free(self->vm);
}

static bool all_in_mode(struct hpkvm_runner *r, uint32_t mode)
{
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		if (hpkvm_state(r[i].vcpu).mode < mode)
			return false;
	}
	return true;
}

/* Lives until it is killed. */
static void __noreturn victim(uint32_t *stage, const uint32_t *cores)
{
	struct hpkvm_runner r[NR_VCPUS];
	struct kvm_vm *vm;
	pthread_t thread;
	int i;

	vm = hpkvm_vm_create(NR_VCPUS, kvm_check_cap(KVM_CAP_X86_HPKVM));
	for (i = 0; i < NR_VCPUS; i++) {
		r[i].core = cores[i];
		r[i].vcpu = hpkvm_busy_vcpu(vm, i);
	}
	WRITE_ONCE(*stage, STAGE_VM);

	for (i = 0; i < NR_VCPUS; i++) {
		WRITE_ONCE(*stage, STAGE_BINDING);
		TEST_ASSERT(!pthread_create(&thread, NULL, hpkvm_bind_and_run,
					    &r[i]),
			    "Can't create a thread");
	}
	while (!all_in_mode(r, KVM_HPKVM_MODE_EMULATED))
		usleep(100);
	WRITE_ONCE(*stage, STAGE_BOUND);
	while (!all_in_mode(r, KVM_HPKVM_MODE_PASSTHROUGH) ||
	       !hpkvm_busy_interrupts(vm))
		usleep(100);
	WRITE_ONCE(*stage, STAGE_RUNNING);
	for (;;)
		pause();
}

static pid_t start_victim(uint32_t *stage, const uint32_t *cores)
{
	pid_t pid;

	WRITE_ONCE(*stage, STAGE_BORN);
	pid = fork();
	if (!pid)
		victim(stage, cores);
	return pid;
}

static long now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_to_ns(ts) / 1000;
}

/* Microseconds from birth until the guests run. */
static long time_to_run(uint32_t *stage, const uint32_t *cores)
{
	long begin = now_us();
	int status;
	pid_t pid = start_victim(stage, cores);

	while (READ_ONCE(*stage) != STAGE_RUNNING &&
	       !waitpid(pid, &status, WNOHANG))
		usleep(100);
	begin = now_us() - begin;
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return begin;
}

/*
 * Wait until a victim has reached @stage, and a random time more, so that each
 * of its stages is hit however long it takes.  Returns the stage that it was
 * killed in, or a negative number on failure.
 */
static int kill_one(uint32_t *stage, const uint32_t *cores, uint32_t wait_for,
		    long max_us, uint64_t *random)
{
	long begin = now_us(), limit = begin + 1000 * MAX_MS;
	pid_t pid = start_victim(stage, cores);
	int status, reached;

	if (pid < 0)
		return pid;
	while (READ_ONCE(*stage) < wait_for && now_us() < limit)
		sched_yield();
	if (hpkvm_random(random) % 4)
		usleep(hpkvm_random(random) % max_us);
	kill(pid, SIGKILL);
	reached = READ_ONCE(*stage);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) ||
	    WTERMSIG(status) != SIGKILL)
		return -1;
	return reached;
}

TEST_F_TIMEOUT(kill, at_any_instant, 600 * PATIENCE)
{
	uint64_t random = hpkvm_setting("HPKVM_SEED", 1);
	unsigned int rounds = hpkvm_setting("HPKVM_ROUNDS", NR_ROUNDS);
	unsigned int hits[NR_STAGES] = {};
	unsigned int round, i;
	long life, ms;
	int reached;

	life = time_to_run(self->stage, self->cores);
	for (round = 0; round < rounds; round++) {
		reached = kill_one(self->stage, self->cores, round % NR_STAGES,
				   life / NR_STAGES, &random);
		ASSERT_LE(0, reached);
		hits[reached]++;
		for (i = 0; i < NR_VCPUS; i++) {
			ms = hpkvm_wait_leasable(self->vcpu, self->cores[i],
						 MAX_MS);
			ASSERT_LE(0, ms) {
				TH_LOG("round %u: the victim %s", round,
				       stage_names[reached]);
			}
			self->slowest = max(self->slowest, ms);
		}
	}

	for (i = 0; i < NR_STAGES; i++)
		ksft_print_msg("%u killed when it %s\n", hits[i],
			       stage_names[i]);
	ksft_print_msg("slowest: %ld ms until the core was free\n",
		       self->slowest);
	EXPECT_LT(0, hits[STAGE_BORN]);
	EXPECT_LT(0, hits[STAGE_BINDING]);
	EXPECT_LE(rounds / NR_STAGES, hits[STAGE_RUNNING]);

	EXPECT_EQ(self->nr_vms, hpkvm_nr_vms());
	for (i = 0; i < NR_VCPUS; i++)
		EXPECT_STREQ("works", hpkvm_check_core(self->cores[i]));
}

TEST_HARNESS_MAIN
