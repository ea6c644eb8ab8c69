/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What isolation.sh asks of the host's kernel.
 *
 *     isolation grace-periods N    wait for N grace periods of RCU, one by one
 *     isolation barriers N         have N network devices vanish: each waits for
 *                                  all callbacks of RCU (rcu_barrier())
 *     isolation spin SECONDS       use the processor for so long; print how
 *                                  much of it, in ms, one got
 *     isolation limit PID SECONDS  let a process use so many seconds of
 *                                  processor time more (RLIMIT_CPU)
 *     isolation storm SECONDS      grace periods, timers, tasks of every kind,
 *                                  which may run on any CPU
 *
 * The first two print how long the slowest took, in ms.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static double now(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return ts.tv_sec + ts.tv_nsec / 1e9;
}

static void grace_period(void)
{
    if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
        die("membarrier");
}

static void barrier(void)
{
    struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
    int fd = open("/dev/net/tun", O_RDWR);

    if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
        die("/dev/net/tun");
    close(fd);
}

static int slowest(void (*wait)(void), int n)
{
    double longest = 0;

    while (n-- > 0) {
        double begin = now(CLOCK_MONOTONIC), took;

        wait();
        took = now(CLOCK_MONOTONIC) - begin;
        if (took > longest)
            longest = took;
    }
    printf("%d\n", (int)(longest * 1000));
    return 0;
}

static int spin(double seconds)
{
    double end = now(CLOCK_MONOTONIC) + seconds;

    while (now(CLOCK_MONOTONIC) < end)
        continue;
    printf("%d\n", (int)(now(CLOCK_PROCESS_CPUTIME_ID) * 1000));
    return 0;
}

/* What the scheduler knows of all its threads, in seconds. */
static double used(int pid)
{
    clockid_t clock = ~(clockid_t)pid << 3 | 2;

    return now(clock);
}

static int limit(int pid, int seconds)
{
    struct rlimit limit = {
        .rlim_cur = used(pid) + seconds + 1,
        .rlim_max = RLIM_INFINITY,
    };

    if (prlimit(pid, RLIMIT_CPU, &limit, NULL))
        die("prlimit");
    return 0;
}

/* ---- The storm ---- */

static double storm_end;

static bool storm_lasts(void)
{
    return now(CLOCK_MONOTONIC) < storm_end;
}

static void *grace_periods(void *unused)
{
    while (storm_lasts())
        grace_period();
    return unused;
}

static void *forks(void *unused)
{
    while (storm_lasts()) {
        pid_t child = fork();

        if (!child) {
            execl("/proc/self/exe", "isolation", "spin", "0", NULL);
            _exit(1);
        }
        if (child > 0)
            waitpid(child, NULL, 0);
    }
    return unused;
}

static void *sleeps(void *policy)
{
    struct sched_param param = { .sched_priority = 1 };
    struct timespec ms = { .tv_nsec = 1000000 };

    if (policy)
        pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
    while (storm_lasts()) {
        double end = now(CLOCK_MONOTONIC) + 0.0005;

        while (now(CLOCK_MONOTONIC) < end)
            continue;
        nanosleep(&ms, NULL);
    }
    return NULL;
}

static int storm(double seconds)
{
    pthread_t thread[8];

    /* The output of what it starts is of no interest. */
    if (!freopen("/dev/null", "w", stdout))
        die("/dev/null");
    storm_end = now(CLOCK_MONOTONIC) + seconds;
    for (int i = 0; i < 8; i++) {
        void *(*body)(void *) = i == 0 ? grace_periods :
                                i <= 2 ? forks : sleeps;

        if (pthread_create(&thread[i], NULL, body, i > 5 ? &storm_end : NULL))
            die("pthread_create");
    }
    for (int i = 0; i < 8; i++)
        pthread_join(thread[i], NULL);
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";

    if (!strcmp(what, "grace-periods"))
        return slowest(grace_period, atoi(argv[2]));
    if (!strcmp(what, "barriers"))
        return slowest(barrier, atoi(argv[2]));
    if (!strcmp(what, "spin"))
        return spin(atof(argv[2]));
    if (!strcmp(what, "limit") && argc > 3)
        return limit(atoi(argv[2]), atoi(argv[3]));
    if (!strcmp(what, "storm"))
        return storm(atof(argv[2]));
    fprintf(stderr, "isolation: see its head for what it does\n");
    return 2;
}
