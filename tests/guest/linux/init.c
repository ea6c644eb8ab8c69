/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The only process of a Linux test guest: mounts what it needs, runs the
 * scenario named on the kernel's command line after "--", and ends the guest.
 *
 * Owns the choice of scenario and how the guest ends.  It must never return:
 * a test that waits for a power-off would wait for a panic instead.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "traffic.h"
#include "load.h"
#include "reset.h"

static void setup(void)
{
	mkdir("/proc", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL))
		perror("guest: mount /proc");
	setvbuf(stdout, NULL, _IOLBF, 0);
}

/* One measured window, then power off. */
static void steady(int settle, unsigned long sleeps)
{
	struct load *load = load_start();

	sleep(settle);
	load_window(load, sleeps);
	printf("guest: done\n");
}

/* Megabytes that the kernel calls its own. */
static unsigned long memory(void)
{
	struct sysinfo info;

	if (sysinfo(&info))
		return 0;
	return (info.totalram * info.mem_unit) >> 20;
}

/* The same load, and a line a second to show that it moves. */
static void forever(struct load *load)
{
	for (unsigned int second = 1;; second++) {
		sleep(1);
		printf("guest: alive %u %lu memory %lu\n", second,
		       load_rounds(load), memory());
	}
}

/* To memory, once; who woke it up finds it alive. */
static void suspend(struct load *load, int seconds)
{
	FILE *state;

	sleep(seconds);
	mkdir("/sys", 0755);
	if (mount("sysfs", "/sys", "sysfs", 0, NULL))
		perror("guest: mount /sys");
	state = fopen("/sys/power/state", "w");
	if (state && fputs("mem", state) >= 0 && !fclose(state))
		printf("guest: awake\n");
	else
		perror("guest: suspend");
	forever(load);
}

/*
 * The command line: steady SECONDS SLEEPS | forever | traffic SECONDS | reset |
 * suspend SECONDS | reboot SECONDS | poweroff SECONDS | panic SECONDS, the last
 * four after that much load.
 */
int main(int argc, char **argv)
{
	const char *scenario = argc > 1 ? argv[1] : "poweroff";
	int first = argc > 2 ? atoi(argv[2]) : 1;

	setup();
	printf("guest: start %s\n", scenario);
	if (!strcmp(scenario, "steady")) {
		steady(first, argc > 3 ? strtoul(argv[3], NULL, 10) : 1000);
	} else if (!strcmp(scenario, "forever")) {
		forever(load_start());
	} else if (!strcmp(scenario, "suspend")) {
		suspend(load_start(), first);
	} else if (!strcmp(scenario, "traffic")) {
		traffic_run(first);
	} else if (!strcmp(scenario, "reset")) {
		reset_run();
		forever(load_start());
	} else {
		load_start();
		sleep(first);
	}
	printf("guest: ending by %s\n", scenario);
	fflush(stdout);
	if (!strcmp(scenario, "panic"))
		_exit(1);	/* the kernel panics when init ends */
	reboot(strcmp(scenario, "reboot") ? RB_POWER_OFF : RB_AUTOBOOT);
	for (;;)
		pause();
}
