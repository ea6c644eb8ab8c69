/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host's own work costs on CPU 0, in ticks of the TSC, which are
 * instructions where the clock counts them (hp-host run --icount):
 *
 *     host-cost ROUNDS
 *
 * prints "cost: NAME TICKS" for the median of so many rounds of
 *
 *     syscall  one that does next to nothing
 *     switch   a byte to another thread of this CPU, and one back
 *     wake     the wake-up of a thread that sleeps on CPU 1
 *     call     a function call to CPU 1, there and back
 *     timer    an hrtimer started and cancelled
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <x86intrin.h>

#define MSR_TSC     0x10
#define PAUSE_US    300

static int there[2], back[2], msr, timer;
static atomic_uint word;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void pin(unsigned cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set))
        die("sched_setaffinity");
}

static void *echo(void *arg)
{
    char byte;

    (void)arg;
    pin(0);
    while (read(there[0], &byte, 1) == 1 && write(back[1], &byte, 1) == 1)
        ;
    return NULL;
}

static void *sleeper(void *arg)
{
    (void)arg;
    pin(1);
    for (;;)
        syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return NULL;
}

static void do_syscall(void)
{
    syscall(SYS_getppid);
}

static void do_switch(void)
{
    char byte = 0;

    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
        die("pipe");
}

static void do_wake(void)
{
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void do_call(void)
{
    uint64_t tsc;

    if (pread(msr, &tsc, sizeof(tsc), MSR_TSC) != sizeof(tsc))
        die("/dev/cpu/1/msr");
}

static void do_timer(void)
{
    struct itimerspec on = { .it_value.tv_sec = 1000 }, off = {};

    if (timerfd_settime(timer, 0, &on, NULL) ||
        timerfd_settime(timer, 0, &off, NULL))
        die("timerfd_settime");
}

static const struct {
    const char *name;
    void (*work)(void);
    unsigned pause_us;  /* before each, for the others to go to sleep again */
} costs[] = {
    { "syscall", do_syscall, 0 },
    { "switch", do_switch, 0 },
    { "wake", do_wake, PAUSE_US },
    { "call", do_call, PAUSE_US },
    { "timer", do_timer, 0 },
};

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* The cheapest one may be a rare one, that finds the other CPU awake. */
static uint64_t median(void (*work)(void), unsigned pause_us, long rounds)
{
    uint64_t *took = calloc(rounds, sizeof(*took)), result;

    if (!took)
        die("calloc");
    for (long i = 0; i < rounds; i++) {
        uint64_t begin;

        if (pause_us)
            usleep(pause_us);
        begin = __rdtsc();
        work();
        took[i] = __rdtsc() - begin;
    }
    qsort(took, rounds, sizeof(*took), compare);
    result = took[rounds / 2];
    free(took);
    return result;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    if (argc != 2)
        return 2;
    msr = open("/dev/cpu/1/msr", O_RDONLY);
    timer = timerfd_create(CLOCK_MONOTONIC, 0);
    if (msr < 0 || timer < 0 || pipe(there) || pipe(back))
        die("set-up");
    pin(0);
    if (pthread_create(&thread, NULL, echo, NULL) ||
        pthread_create(&thread, NULL, sleeper, NULL))
        die("pthread_create");
    for (unsigned i = 0; i < sizeof(costs) / sizeof(costs[0]); i++)
        printf("cost: %s %lu\n", costs[i].name,
               median(costs[i].work, costs[i].pause_us, atol(argv[1])));
    return 0;
}
