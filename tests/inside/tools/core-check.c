/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Usage: core-check CPU
 *
 * Puts a load of every kind on one CPU of the host and says whether the CPU
 * serves it as any other: its timer fires, other CPUs' IPIs reach it, woken
 * threads get scheduled on it, and the counters in /proc/interrupts agree.
 *
 * Prints one line "core-check: NAME ok|FAILED: detail" for each and exits 0
 * when all are ok.  It must never pass on a CPU that only looks alive: each
 * check needs the CPU to answer.
 */
#define _GNU_SOURCE
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLEEPS		40
#define SLEEP_NSEC	5000000L
/*
 * A lost timer shows as a sleep of seconds, an emulated and loaded host as one
 * of some tens of milliseconds.
 */
#define LATE_MSEC	1000
#define TICK_SECONDS	1
#define BARRIERS	100
#define WAKEUPS		80
#define SECONDS_LIMIT	60

static int cpu;
static bool failed;
static atomic_bool stop;

static long msec_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (now.tv_sec - start->tv_sec) * 1000 +
	       (now.tv_nsec - start->tv_nsec) / 1000000;
}

static void report(const char *name, bool ok, long number, const char *unit)
{
	printf("core-check: %s %s: %ld %s\n", name, ok ? "ok" : "FAILED",
	       number, unit);
	if (!ok)
		failed = true;
}

/* A thread that never runs anywhere but on our CPU. */
static pthread_t start_there(void *(*body)(void *), void *arg)
{
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	if (pthread_create(&thread, &attr, body, arg)) {
		printf("core-check: pin FAILED: cannot run on cpu %d\n", cpu);
		exit(1);
	}
	pthread_attr_destroy(&attr);
	return thread;
}

/* To the first other CPU that this task may have: a partition has few. */
static void leave_the_cpu(void)
{
	cpu_set_t set;

	for (int other = 0; other < CPU_SETSIZE; other++) {
		CPU_ZERO(&set);
		CPU_SET(other, &set);
		if (other != cpu && !sched_setaffinity(0, sizeof(set), &set))
			return;
	}
	printf("core-check: pin FAILED: no CPU but %d\n", cpu);
	exit(1);
}

/* The count of one line of /proc/interrupts on our CPU, or -1. */
static long interrupts(const char *name)
{
	FILE *file = fopen("/proc/interrupts", "r");
	char line[1024];
	long count = -1;

	while (file && fgets(line, sizeof(line), file)) {
		char *word = strtok(line, " \n");

		if (!word || strncmp(word, name, strlen(name)))
			continue;
		for (int i = 0; word && i <= cpu; i++)
			word = strtok(NULL, " \n");
		if (word)
			count = atol(word);
	}
	if (file)
		fclose(file);
	return count;
}

static void *sleeps(void *arg)
{
	struct timespec nap = { .tv_nsec = SLEEP_NSEC };
	long *worst = arg;

	for (int i = 0; i < SLEEPS; i++) {
		struct timespec start;
		long took;

		clock_gettime(CLOCK_MONOTONIC, &start);
		nanosleep(&nap, NULL);
		took = msec_since(&start);
		if (took > *worst)
			*worst = took;
	}
	return NULL;
}

static void *spin(void *arg)
{
	atomic_ulong *count = arg;

	while (!atomic_load(&stop))
		atomic_fetch_add(count, 1);
	return NULL;
}

static void check_sleeps(void)
{
	long worst = 0;

	pthread_join(start_there(sleeps, &worst), NULL);
	report("sleeps", worst < LATE_MSEC, worst, "ms at most for a 5 ms sleep");
}

/*
 * Two threads that want the CPU at once share it only if its tick runs, with
 * nohz_full or without.  The second one comes when the first one runs: stock
 * Linux can lose the tick of a nohz_full CPU that gets both while it leaves the
 * idle loop.  It has looked whether the tick is needed, still counts as polling
 * and so gets no IPI, and runs the kick where no interrupt ends.
 */
static void check_tick(void)
{
	atomic_ulong count[2] = { 0, 0 };
	pthread_t thread[2];
	long before, fired;

	atomic_store(&stop, false);
	thread[0] = start_there(spin, &count[0]);
	while (!atomic_load(&count[0]))
		sched_yield();
	thread[1] = start_there(spin, &count[1]);
	usleep(200000);
	before = interrupts("LOC");
	sleep(TICK_SECONDS);
	fired = interrupts("LOC") - before;
	atomic_store(&stop, true);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	report("tick", fired >= TICK_SECONDS * 20, fired, "LOC in 1 s");
	report("time-slices", count[0] && count[1],
	       count[0] < count[1] ? count[0] : count[1], "rounds of the slower");
}

/*
 * Each barrier interrupts the spinning thread, if that is what runs: an IPI that
 * is waited for.  They are spread, as another task may have the core for a while.
 */
static void check_calls(void)
{
	long before = interrupts("CAL"), took = 0, got;
	const struct sched_param first = { .sched_priority = 1 };
	atomic_ulong count = 0;
	struct timespec start;
	pthread_t thread;
	int done = 0;

	atomic_store(&stop, false);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
	thread = start_there(spin, &count);
	while (!atomic_load(&count))
		sched_yield();
	/* Only a thread that runs is called: nobody is to take turns with it. */
	if (pthread_setschedparam(thread, SCHED_FIFO, &first))
		printf("core-check: the spinner shares its time\n");
	while (done < BARRIERS) {
		clock_gettime(CLOCK_MONOTONIC, &start);
		if (syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0,
			    0))
			break;
		took += msec_since(&start);
		done++;
		usleep(1000);
	}
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	got = interrupts("CAL") - before;
	report("calls", done == BARRIERS && took < LATE_MSEC * 10, took,
	       "ms for 100 calls");
	report("call-interrupts", got >= BARRIERS / 2, got, "CAL");
}

static int there[2], back[2];

static void *answer(void *arg)
{
	char byte;

	for (int i = 0; i < WAKEUPS; i++)
		if (read(there[0], &byte, 1) != 1 ||
		    write(back[1], &byte, 1) != 1)
			break;
	return arg;
}

/* Ask a thread on the CPU for an answer, again and again; how long it took. */
static long ask(const struct sched_param *priority)
{
	struct timespec start, pause = { .tv_nsec = 2000000 };
	pthread_t thread = start_there(answer, NULL);
	char byte = 0;

	if (priority && pthread_setschedparam(thread, SCHED_FIFO, priority))
		printf("core-check: who is asked waits for its turn\n");
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (int i = 0; i < WAKEUPS; i++) {
		if (write(there[1], &byte, 1) != 1 ||
		    read(back[0], &byte, 1) != 1)
			exit(1);
		nanosleep(&pause, NULL);
	}
	pthread_join(thread, NULL);
	return msec_since(&start);
}

/*
 * Each byte wakes a thread on the CPU, which had gone idle.  If it idles by
 * MWAIT, no interrupt wakes it.
 */
static void check_wakeups(void)
{
	long took;

	if (pipe(there) || pipe(back))
		exit(1);
	took = ask(NULL);
	report("wake-ups", took < LATE_MSEC * 10, took, "ms for 80 round trips");
}

/* Each byte wakes a thread that takes the CPU from one that runs: by an IPI. */
static void check_preemption(void)
{
	long before = interrupts("RES") + interrupts("CAL"), took, got;
	const struct sched_param first = { .sched_priority = 1 };
	atomic_ulong count = 0;
	pthread_t spinner;

	atomic_store(&stop, false);
	spinner = start_there(spin, &count);
	while (!atomic_load(&count))
		sched_yield();
	took = ask(&first);
	atomic_store(&stop, true);
	pthread_join(spinner, NULL);
	got = interrupts("RES") + interrupts("CAL") - before;
	report("preemptions", took < LATE_MSEC * 10, took,
	       "ms for 80 round trips");
	report("wake-up-interrupts", got >= WAKEUPS / 2, got, "RES + CAL");
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: core-check CPU\n");
		return 2;
	}
	cpu = atoi(argv[1]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	alarm(SECONDS_LIMIT);	/* a deaf CPU must fail the test, not hang it */
	leave_the_cpu();
	check_sleeps();
	check_tick();
	check_calls();
	check_wakeups();
	check_preemption();
	return failed;
}
