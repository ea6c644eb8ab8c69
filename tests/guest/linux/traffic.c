/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traffic on the devices of a test guest.
 *
 * Owns the patterns and their verification.  It must never count what it did
 * not compare.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "traffic.h"
#include "interrupts.h"
#include "load.h"

#define INTERFACE	"eth0"
#define OWN_ADDRESS	"10.9.0.2"
#define PEER_ADDRESS	"10.9.0.1"
#define NETMASK		"255.255.255.0"
#define ECHO_PORT	7
#define NET_BLOCK	16384
#define LINK_SECONDS	20
#define DISK		"/dev/nvme0n1"
#define DISK_BLOCK	4096
#define DISK_BLOCKS	256	/* of each CPU */
#define MAX_CPUS	16

static atomic_bool stop;
static atomic_ulong net_bytes, net_bad, disk_blocks, disk_bad;

static void fill(uint64_t *words, size_t bytes, uint64_t seed)
{
	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = (seed + i) * 0x9e3779b97f4a7c15;
}

/* ---- Network ---- */

static bool set_address(int s, int request, const char *address)
{
	struct ifreq ifr = { .ifr_name = INTERFACE };
	struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;

	in->sin_family = AF_INET;
	inet_pton(AF_INET, address, &in->sin_addr);
	return !ioctl(s, request, &ifr);
}

static bool interface_up(void)
{
	struct ifreq ifr = { .ifr_name = INTERFACE };
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	bool ok = s >= 0 && set_address(s, SIOCSIFADDR, OWN_ADDRESS) &&
		  set_address(s, SIOCSIFNETMASK, NETMASK) &&
		  !ioctl(s, SIOCGIFFLAGS, &ifr);

	ifr.ifr_flags |= IFF_UP;
	ok = ok && !ioctl(s, SIOCSIFFLAGS, &ifr);
	close(s);
	return ok;
}

/* The link may take its time. */
static int connect_peer(void)
{
	struct sockaddr_in peer = {
		.sin_family = AF_INET,
		.sin_port = htons(ECHO_PORT),
	};
	struct timeval patience = { .tv_sec = 5 };

	inet_pton(AF_INET, PEER_ADDRESS, &peer.sin_addr);
	for (int i = 0; i < LINK_SECONDS; i++) {
		int s = socket(AF_INET, SOCK_STREAM, 0);

		setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience,
			   sizeof(patience));
		setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &patience,
			   sizeof(patience));
		if (!connect(s, (struct sockaddr *)&peer, sizeof(peer)))
			return s;
		close(s);
		sleep(1);
	}
	return -1;
}

static bool transfer(int s, char *buf, bool out)
{
	for (size_t done = 0; done < NET_BLOCK;) {
		ssize_t n = out ? write(s, buf + done, NET_BLOCK - done) :
				  read(s, buf + done, NET_BLOCK - done);

		if (n <= 0)
			return false;
		done += n;
	}
	return true;
}

static void *net_thread(void *arg)
{
	static uint64_t sent[NET_BLOCK / 8], got[NET_BLOCK / 8];
	int s = *(int *)arg;

	for (uint64_t seed = 1; !atomic_load(&stop); seed += NET_BLOCK) {
		fill(sent, NET_BLOCK, seed);
		if (!transfer(s, (char *)sent, true) ||
		    !transfer(s, (char *)got, false)) {
			perror("traffic: net");
			atomic_fetch_add(&net_bad, NET_BLOCK);
			break;
		}
		if (memcmp(sent, got, NET_BLOCK))
			atomic_fetch_add(&net_bad, NET_BLOCK);
		atomic_fetch_add(&net_bytes, NET_BLOCK);
	}
	return NULL;
}

/* ---- Disk ---- */

static bool verify_block(int fd, off_t at, uint64_t *block, uint64_t *copy,
			 uint64_t seed)
{
	fill(block, DISK_BLOCK, seed);
	memset(copy, 0, DISK_BLOCK);
	return pwrite(fd, block, DISK_BLOCK, at) == DISK_BLOCK &&
	       pread(fd, copy, DISK_BLOCK, at) == DISK_BLOCK &&
	       !memcmp(block, copy, DISK_BLOCK);
}

static void *disk_thread(void *arg)
{
	long cpu = (long)arg;
	int fd = open(DISK, O_RDWR | O_DIRECT);
	void *block, *copy;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
	if (fd < 0 || posix_memalign(&block, DISK_BLOCK, DISK_BLOCK) ||
	    posix_memalign(&copy, DISK_BLOCK, DISK_BLOCK)) {
		perror("traffic: disk");
		atomic_fetch_add(&disk_bad, 1);
		return NULL;
	}
	for (uint64_t n = 0; !atomic_load(&stop); n++) {
		off_t at = (cpu * DISK_BLOCKS + n % DISK_BLOCKS) * DISK_BLOCK;

		if (!verify_block(fd, at, block, copy, n << 8 | cpu))
			atomic_fetch_add(&disk_bad, 1);
		atomic_fetch_add(&disk_blocks, 1);
	}
	return NULL;
}

/* ---- Both ---- */

void traffic_run(int seconds)
{
	struct interrupts *before = interrupts_alloc();
	struct interrupts *after = interrupts_alloc();
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[MAX_CPUS + 1];
	int n = 0, s = -1;
	bool disk;

	mkdir("/dev", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	disk = !access(DISK, F_OK);
	if (interface_up()) {
		s = connect_peer();
		printf("traffic: net %s\n", s < 0 ? "has no peer" : "connected");
	} else {
		printf("traffic: no " INTERFACE "\n");
	}

	interrupts_read(before);
	window_begin();
	if (s >= 0)
		pthread_create(&threads[n++], NULL, net_thread, &s);
	for (long cpu = 0; disk && cpu < cpus && cpu < MAX_CPUS; cpu++)
		pthread_create(&threads[n++], NULL, disk_thread, (void *)cpu);
	sleep(seconds);
	atomic_store(&stop, true);
	while (n)
		pthread_join(threads[--n], NULL);
	window_end();
	interrupts_read(after);

	printf("traffic: net bytes=%lu bad=%lu\n", net_bytes, net_bad);
	printf("traffic: disk blocks=%lu bad=%lu\n", disk_blocks, disk_bad);
	interrupts_print_growth(before, after);
	free(before);
	free(after);
}
