/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fixed load of a test guest, and its measured window.
 *
 * Owns the threads that make the load.  It must never do system calls of its
 * own accord inside the window, other than the load's: they would be measured.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "interrupts.h"
#include "load.h"

#define NSEC_PER_MSEC		1000000L
#define SLEEP_MSEC		1
#define PING_SLEEPS		75
#define WORK_STEPS		2000
#define QUIET_MSEC		100
#define POLL_MSEC		250

struct cpu_load {
	struct load *load;
	int cpu;
	int request[2];			/* pipe from the previous CPU */
	int reply[2];			/* pipe back to it */
	struct cpu_load *next;
	atomic_ulong sleeps;
	atomic_ulong sleeps_limit;	/* stands still when it has so many */
	atomic_ulong pings;
	unsigned long work;
};

struct load {
	int cpus;
	struct cpu_load *cpu;
	atomic_bool hold;		/* the load stands still */
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void sleep_msec(long msec)
{
	struct timespec ts = {
		.tv_sec = msec / 1000,
		.tv_nsec = msec % 1000 * NSEC_PER_MSEC,
	};

	clock_nanosleep(CLOCK_MONOTONIC, 0, &ts, NULL);
}

static void wait_while_held(struct load *load)
{
	while (atomic_load(&load->hold))
		sleep_msec(QUIET_MSEC / 4);
}

static void work(struct cpu_load *me)
{
	volatile unsigned long *sum = &me->work;

	for (int i = 0; i < WORK_STEPS; i++)
		*sum += i;
}

/* Wakes a thread of the next CPU and is woken by it: an IPI each way. */
static void ping(struct cpu_load *me)
{
	char byte = 0;

	if (write(me->next->request[1], &byte, 1) != 1 ||
	    read(me->next->reply[0], &byte, 1) != 1)
		fail("guest: ping");
	atomic_fetch_add(&me->pings, 1);
}

/*
 * So many pings for so many sleeps, not for so many seconds: a slow host does
 * not make the load another one.  The CPUs take turns: if all pinged at once,
 * all would be awake, and only an idle CPU takes an IPI to wake.
 */
static void *sleeper(void *arg)
{
	struct cpu_load *me = arg;
	unsigned long turn = me->cpu * PING_SLEEPS / me->load->cpus;

	for (;;) {
		sleep_msec(SLEEP_MSEC);
		if (atomic_fetch_add(&me->sleeps, 1) % PING_SLEEPS == turn)
			ping(me);
		work(me);
		while (atomic_load(&me->sleeps) >=
		       atomic_load(&me->sleeps_limit))
			sleep_msec(QUIET_MSEC / 4);
		wait_while_held(me->load);
	}
	return NULL;
}

static void *echoer(void *arg)
{
	struct cpu_load *me = arg;
	char byte;

	for (;;) {
		if (read(me->request[0], &byte, 1) != 1 ||
		    write(me->reply[1], &byte, 1) != 1)
			fail("guest: echo");
	}
	return NULL;
}

static void start_thread(struct cpu_load *cpu, void *(*body)(void *))
{
	pthread_attr_t attr;
	pthread_t thread;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu->cpu, &set);
	pthread_attr_init(&attr);
	pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	if (pthread_create(&thread, &attr, body, cpu))
		fail("guest: pthread_create");
	pthread_attr_destroy(&attr);
}

struct load *load_start(void)
{
	struct load *load = calloc(1, sizeof(*load));

	prctl(PR_SET_TIMERSLACK, 1);
	load->cpus = sysconf(_SC_NPROCESSORS_ONLN);
	load->cpu = calloc(load->cpus, sizeof(*load->cpu));
	for (int i = 0; i < load->cpus; i++) {
		struct cpu_load *cpu = &load->cpu[i];

		cpu->load = load;
		cpu->cpu = i;
		cpu->next = &load->cpu[(i + 1) % load->cpus];
		cpu->sleeps_limit = ULONG_MAX;
		if (pipe(cpu->request) || pipe(cpu->reply))
			fail("guest: pipe");
	}
	for (int i = 0; i < load->cpus; i++) {
		start_thread(&load->cpu[i], sleeper);
		start_thread(&load->cpu[i], echoer);
	}
	return load;
}

unsigned long load_rounds(const struct load *load)
{
	unsigned long sum = 0;

	for (int i = 0; i < load->cpus; i++)
		sum += atomic_load(&load->cpu[i].sleeps);
	return sum;
}

void window_begin(void)
{
	unsigned int a, b, c, d;

	__cpuid(WINDOW_BEGIN, a, b, c, d);
}

/* The other vendor's instruction would be an invalid opcode. */
void window_end(void)
{
	unsigned int a, b, c, d;
	unsigned long nr = WINDOW_END;

	__cpuid(0, a, b, c, d);
	if (b == signature_INTEL_ebx)
		asm volatile("vmcall" : "+a"(nr) : : "memory");
	else
		asm volatile("vmmcall" : "+a"(nr) : : "memory");
}

static void hold(struct load *load)
{
	atomic_store(&load->hold, true);
	sleep_msec(QUIET_MSEC);
}

/* Allow @sleeps more on each CPU and wait for them. */
static void run(struct load *load, unsigned long sleeps)
{
	for (int i = 0; i < load->cpus; i++)
		atomic_store(&load->cpu[i].sleeps_limit,
			     atomic_load(&load->cpu[i].sleeps) + sleeps);
	atomic_store(&load->hold, false);
	for (int i = 0; i < load->cpus; i++)
		while (atomic_load(&load->cpu[i].sleeps) <
		       atomic_load(&load->cpu[i].sleeps_limit))
			sleep_msec(POLL_MSEC);
}

void load_window(struct load *load, unsigned long sleeps)
{
	struct interrupts *before = interrupts_alloc();
	struct interrupts *after = interrupts_alloc();
	unsigned long pings[load->cpus];
	struct timespec begin, end;

	hold(load);
	interrupts_read(before);
	for (int i = 0; i < load->cpus; i++)
		pings[i] = atomic_load(&load->cpu[i].pings);
	clock_gettime(CLOCK_MONOTONIC, &begin);
	window_begin();
	run(load, sleeps);
	hold(load);
	window_end();
	clock_gettime(CLOCK_MONOTONIC, &end);
	interrupts_read(after);

	printf("window: cpus=%d msec=%ld\n", load->cpus,
	       (end.tv_sec - begin.tv_sec) * 1000 +
	       (end.tv_nsec - begin.tv_nsec) / NSEC_PER_MSEC);
	for (int i = 0; i < load->cpus; i++)
		printf("load: cpu=%d sleeps=%lu pings=%lu\n", i, sleeps,
		       atomic_load(&load->cpu[i].pings) - pings[i]);
	interrupts_print_growth(before, after);
	free(before);
	free(after);
}
