/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traffic on the devices of a test guest, all of it verified.
 */
#ifndef TRAFFIC_H
#define TRAFFIC_H

/*
 * traffic_run() - keep eth0 and /dev/nvme0n1 busy for @seconds, if they exist
 *
 * The network: a TCP connection to the echo server of net-peer.c, one block at
 * a time each way.  The disk: on every CPU a thread that writes a block and
 * reads it back, past the page cache.  Marks the time as load_window() does, and
 * prints what was done, how much of it came back wrong, and the interrupts.
 * A guest has as many queues of the disk as CPUs.
 */
void traffic_run(int seconds);

#endif
