// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the hpkvm_* tests ask the host about its CPUs: which lists one is in,
 * what /proc/interrupts counted on it, and whether it works; and about its VMs.
 *
 * The checks load the CPU only from threads pinned to it that end with the
 * check, so that a core is left as it was found.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>

#include "apic.h"
#include "hpkvm.h"

/* Far longer than any check takes; emulated hosts are slow. */
#define CHECK_TIMEOUT_NS	(20 * NSEC_PER_SEC)

bool hpkvm_cpu_in_list(const char *path, uint32_t cpu)
{
	unsigned int first, last;
	bool found = false;
	char sep = ',';
	FILE *f;
	int n;

	f = fopen(path, "r");
	if (!f)
		return false;

	while (!found && sep == ',' && fscanf(f, "%u", &first) == 1) {
		last = first;
		n = fscanf(f, "%c", &sep);
		if (n == 1 && sep == '-' && fscanf(f, "%u%c", &last, &sep) < 1)
			break;
		found = cpu >= first && cpu <= last;
		if (n != 1)
			break;
	}
	fclose(f);
	return found;
}

static int open_msrs(uint32_t cpu)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/dev/cpu/%u/msr", cpu);
	fd = open(path, O_RDWR);
	TEST_ASSERT(fd >= 0, "Can't open %s: %d", path, errno);
	return fd;
}

uint64_t hpkvm_read_msr(uint32_t cpu, uint32_t msr)
{
	int fd = open_msrs(cpu);
	uint64_t value;

	TEST_ASSERT(pread(fd, &value, sizeof(value), msr) == sizeof(value),
		    "Can't read MSR %#x: %d", msr, errno);
	close(fd);
	return value;
}

void hpkvm_write_msr(uint32_t cpu, uint32_t msr, uint64_t value)
{
	int fd = open_msrs(cpu);

	TEST_ASSERT(pwrite(fd, &value, sizeof(value), msr) == sizeof(value),
		    "Can't write MSR %#x: %d", msr, errno);
	close(fd);
}

uint32_t hpkvm_stale_vectors(uint32_t cpu)
{
	return hpkvm_read_msr(cpu, APIC_BASE_MSR + (APIC_IRR >> 4));
}

bool hpkvm_set_online(uint32_t cpu, bool online)
{
	char path[64];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/online",
		 cpu);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return false;
	ok = write(fd, online ? "1" : "0", 1) == 1;
	close(fd);
	return ok;
}

/* KVM's debugfs has a directory "PID-FD" for each VM. */
int hpkvm_nr_vms(void)
{
	DIR *dir = opendir("/sys/kernel/debug/kvm");
	unsigned int pid, fd;
	struct dirent *d;
	int nr = 0;

	if (!dir)
		return -1;
	while ((d = readdir(dir)))
		nr += sscanf(d->d_name, "%u-%u", &pid, &fd) == 2;
	closedir(dir);
	return nr;
}

long hpkvm_interrupts(const char *row, uint32_t cpu)
{
	char *line = NULL, *tok, *save;
	int column = -1, i;
	long count = -1;
	size_t size = 0;
	FILE *f;

	f = fopen("/proc/interrupts", "r");
	TEST_ASSERT(f, "Can't open /proc/interrupts");

	/* Only online CPUs have a column, so look for ours in the first line. */
	if (getline(&line, &size, f) > 0) {
		for (i = 0, tok = strtok_r(line, "\n ", &save); tok;
		     i++, tok = strtok_r(NULL, "\n ", &save)) {
			if (!strncmp(tok, "CPU", 3) && atoi(tok + 3) == cpu)
				column = i;
		}
	}
	while (column >= 0 && count < 0 && getline(&line, &size, f) > 0) {
		tok = strtok_r(line, ":\n ", &save);
		if (!tok || strcmp(tok, row))
			continue;
		for (i = 0; i <= column && tok; i++)
			tok = strtok_r(NULL, "\n ", &save);
		if (tok)
			count = strtol(tok, NULL, 10);
	}
	free(line);
	fclose(f);
	return count;
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return timespec_to_ns(ts);
}

/* A thread that stays on one CPU until told to stop. */
struct spinner {
	pthread_t thread;
	uint32_t cpu;
	uint64_t loops;
	bool stop;
};

static void *spin(void *arg)
{
	struct spinner *s = arg;

	hpkvm_pin(s->cpu);
	while (!READ_ONCE(s->stop))
		WRITE_ONCE(s->loops, s->loops + 1);
	return NULL;
}

static void spinner_start(struct spinner *s, uint32_t cpu)
{
	s->cpu = cpu;
	s->loops = 0;
	s->stop = false;
	TEST_ASSERT(!pthread_create(&s->thread, NULL, spin, s),
		    "Can't create a thread");
}

static void spinner_stop(struct spinner *s)
{
	WRITE_ONCE(s->stop, true);
	pthread_join(s->thread, NULL);
}

static bool spinner_progress(struct spinner *s)
{
	uint64_t end = now_ns() + CHECK_TIMEOUT_NS;
	uint64_t start = READ_ONCE(s->loops);

	while (READ_ONCE(s->loops) - start < 1000) {
		if (now_ns() > end)
			return false;
		usleep(1000);
	}
	return true;
}

static void *sleeper(void *arg)
{
	const struct timespec ms = { .tv_nsec = 1000000 };
	struct spinner *s = arg;

	hpkvm_pin(s->cpu);
	while (!READ_ONCE(s->stop)) {
		clock_nanosleep(CLOCK_MONOTONIC, 0, &ms, NULL);
		WRITE_ONCE(s->loops, s->loops + 1);
	}
	return NULL;
}

/* With nohz_full the timer may be another CPU's: no count tells. */
static const char *check_sleep(uint32_t cpu)
{
	uint64_t end = now_ns() + CHECK_TIMEOUT_NS;
	struct spinner s = { .cpu = cpu };
	uint64_t loops;

	TEST_ASSERT(!pthread_create(&s.thread, NULL, sleeper, &s),
		    "Can't create a thread");
	do {
		usleep(1000);
		loops = READ_ONCE(s.loops);
	} while (loops < 20 && now_ns() < end);
	if (loops < 20) {
		/* The thread can't be joined: its sleep never ends. */
		pthread_detach(s.thread);
		return "1 ms sleeps don't end";
	}
	spinner_stop(&s);
	return NULL;
}

/*
 * Two busy threads share a CPU only if the scheduler's tick runs on it.  The
 * second one comes when the first one runs: a nohz_full CPU that gets both
 * while it leaves the idle loop can lose the kick that starts its tick.
 */
static const char *check_tick(uint32_t cpu)
{
	uint64_t end = now_ns() + CHECK_TIMEOUT_NS;
	const char *bad = NULL;
	struct spinner a, b;
	long before;

	spinner_start(&a, cpu);
	if (!spinner_progress(&a))
		bad = "a busy thread doesn't get the CPU";
	spinner_start(&b, cpu);
	if (!bad && (!spinner_progress(&b) || !spinner_progress(&a)))
		bad = "two busy threads don't share the CPU";

	before = hpkvm_interrupts("LOC", cpu);
	while (!bad && hpkvm_interrupts("LOC", cpu) < before + 10) {
		if (now_ns() > end)
			bad = "no tick: /proc/interrupts counts no LOC";
		usleep(1000);
	}
	spinner_stop(&a);
	spinner_stop(&b);
	return bad;
}

struct echo {
	pthread_t thread;
	uint32_t cpu;
	int ping[2];
	int pong[2];
};

static void *echo(void *arg)
{
	struct sched_param prio = { .sched_priority = 1 };
	struct echo *e = arg;
	char c;

	hpkvm_pin(e->cpu);
	if (sched_setscheduler(0, SCHED_FIFO, &prio))
		return "can't become SCHED_FIFO";
	while (read(e->ping[0], &c, 1) == 1) {
		if (write(e->pong[1], &c, 1) != 1)
			return "can't write to a pipe";
	}
	return NULL;
}

/*
 * Wake a real-time thread on a CPU that another thread keeps busy: a busy CPU
 * doesn't poll, so that each wake-up needs a reschedule IPI.
 */
static const char *check_reschedule(uint32_t cpu)
{
	long before = hpkvm_interrupts("RES", cpu);
	struct echo e = { .cpu = cpu };
	struct spinner busy;
	const char *bad = NULL;
	void *ret;
	char c = 0;
	int i;

	if (pipe(e.ping) || pipe(e.pong))
		return "can't create a pipe";
	spinner_start(&busy, cpu);
	TEST_ASSERT(!pthread_create(&e.thread, NULL, echo, &e),
		    "Can't create a thread");
	for (i = 0; i < 20 && !bad; i++) {
		spinner_progress(&busy);
		if (write(e.ping[1], &c, 1) != 1 || read(e.pong[0], &c, 1) != 1)
			bad = "a woken thread doesn't answer";
	}
	close(e.ping[1]);
	pthread_join(e.thread, &ret);
	spinner_stop(&busy);
	close(e.ping[0]);
	close(e.pong[0]);
	close(e.pong[1]);
	if (!bad)
		bad = ret;
	if (!bad && hpkvm_interrupts("RES", cpu) <= before)
		bad = "/proc/interrupts counts no RES";
	return bad;
}

/* membarrier() calls a function on each CPU that runs one of our threads. */
static const char *check_function_call(uint32_t cpu)
{
	long before = hpkvm_interrupts("CAL", cpu);
	const char *bad = NULL;
	struct spinner busy;
	int i;

	if (syscall(__NR_membarrier,
		    MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
		return "membarrier() isn't there";
	spinner_start(&busy, cpu);
	spinner_progress(&busy);
	for (i = 0; i < 20 && !bad; i++) {
		if (syscall(__NR_membarrier,
			    MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0))
			bad = "membarrier() failed";
	}
	spinner_stop(&busy);
	if (!bad && hpkvm_interrupts("CAL", cpu) <= before)
		bad = "/proc/interrupts counts no CAL";
	return bad;
}

const char *hpkvm_check_core(uint32_t cpu)
{
	cpu_set_t saved, others;
	const char *bad;

	/* IPIs come from elsewhere: keep the checking thread off the CPU. */
	TEST_ASSERT(!sched_getaffinity(0, sizeof(saved), &saved),
		    "Can't get the affinity");
	others = saved;
	CPU_CLR(cpu, &others);
	TEST_ASSERT(!sched_setaffinity(0, sizeof(others), &others),
		    "Can't leave CPU %u", cpu);

	bad = check_sleep(cpu);
	if (!bad)
		bad = check_tick(cpu);
	if (!bad)
		bad = check_reschedule(cpu);
	if (!bad)
		bad = check_function_call(cpu);

	sched_setaffinity(0, sizeof(saved), &saved);
	return bad ?: "works";
}
