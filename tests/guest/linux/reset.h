/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Resets of a disk while a guest uses it.
 */
#ifndef RESET_H
#define RESET_H

/*
 * reset_run() - take /dev/nvme0n1's interrupts away and have them come back
 *
 * Unbinds its driver and binds it again, then resets its function, each twice.
 * Before, between and after, every CPU writes blocks past the page cache, reads
 * them back and compares them; prints how many were wrong and the interrupts
 * that this took, and at the end "reset: done".
 */
void reset_run(void);

#endif
