/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots of /proc/interrupts.
 */
#ifndef INTERRUPTS_H
#define INTERRUPTS_H

struct interrupts;

/* Memory for one snapshot, touched now so that reading faults no page in. */
struct interrupts *interrupts_alloc(void);

/* Take a snapshot.  Exits with a message when the file cannot be read. */
void interrupts_read(struct interrupts *snapshot);

/*
 * Print "irq: NAME N0 N1 ..." for every line that grew on any CPU, with the
 * growth on each.
 */
void interrupts_print_growth(const struct interrupts *before,
			     const struct interrupts *after);

#endif
