/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resets of a disk while a guest uses it.
 *
 * Owns the order of what is done to the disk.  It must never touch the disk
 * while its driver is away.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "interrupts.h"
#include "reset.h"

#define DISK		"/dev/nvme0n1"
#define CONTROLLER	"/sys/class/nvme/nvme0/address"
#define DRIVER		"/sys/bus/pci/drivers/nvme/"
#define BLOCK		4096
#define BLOCKS		32	/* of each CPU */
#define PATIENCE	50	/* tenths of a second */

/* What cannot be done ends the guest, and with it the test. */
static void write_string(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, value, strlen(value)) < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
}

/* Open it, when it is there. */
static int disk_open(void)
{
	for (int i = 0; i < PATIENCE; i++) {
		int fd = open(DISK, O_RDWR | O_DIRECT);

		if (fd >= 0)
			return fd;
		usleep(100000);
	}
	perror(DISK);
	return -1;
}

static bool verify(int fd, uint64_t *block, uint64_t *copy, unsigned long nr)
{
	static uint64_t seed;

	seed++;
	for (size_t i = 0; i < BLOCK / sizeof(*block); i++)
		block[i] = (seed << 16 | i) * 0x9e3779b97f4a7c15;
	memset(copy, 0, BLOCK);
	return pwrite(fd, block, BLOCK, nr * BLOCK) == BLOCK &&
	       pread(fd, copy, BLOCK, nr * BLOCK) == BLOCK &&
	       !memcmp(block, copy, BLOCK);
}

static void use_disk(const char *when)
{
	struct interrupts *before = interrupts_alloc();
	struct interrupts *after = interrupts_alloc();
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	unsigned long blocks = 0, bad = 0;
	void *block, *copy;
	int fd = disk_open();

	if (posix_memalign(&block, BLOCK, BLOCK) ||
	    posix_memalign(&copy, BLOCK, BLOCK))
		exit(1);
	interrupts_read(before);
	for (long cpu = 0; cpu < cpus; cpu++) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
		for (int n = 0; n < BLOCKS; n++, blocks++)
			bad += !verify(fd, block, copy, blocks);
	}
	interrupts_read(after);
	printf("reset: %s blocks=%lu bad=%lu\n", when, blocks, bad);
	interrupts_print_growth(before, after);
	close(fd);
	free(block);
	free(copy);
	free(before);
	free(after);
}

void reset_run(void)
{
	char address[32] = "", path[128];
	FILE *f;

	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mkdir("/sys", 0755);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	use_disk("boot");
	f = fopen(CONTROLLER, "r");
	if (!f || fscanf(f, "%31s", address) != 1)
		perror(CONTROLLER);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", address);
	for (int round = 0; round < 2; round++) {
		write_string(DRIVER "unbind", address);
		write_string(DRIVER "bind", address);
		use_disk("rebind");
		write_string(path, "1");
		use_disk("flr");
	}
	printf("reset: done\n");
}
