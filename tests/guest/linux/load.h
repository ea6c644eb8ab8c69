/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fixed load of a test guest: timers, idle time, IPIs and some work.
 */
#ifndef LOAD_H
#define LOAD_H

struct load;

/*
 * load_start() - start the load on every online CPU
 *
 * Each CPU gets a thread that sleeps 1 ms and computes a little, over and over,
 * and one that exchanges a byte with the next CPU's thread every 100 ms (an IPI
 * each way, unless the other CPU is awake): with two CPUs, up to 40 a second.
 * Returns a handle; the load never ends.
 *
 * Every thread is pinned.  Boot with isolcpus= for all CPUs but the first, or
 * the scheduler's load balancer adds some 30 IPIs a second to move nothing.
 */
struct load *load_start(void);

/*
 * load_window() - measure the load for @sleeps sleeps on each CPU
 *
 * The work is fixed and not the time: a host on which the guest runs faster
 * would otherwise have to do more, and exits could not be compared.  It takes
 * @sleeps milliseconds or more.
 *
 * Marks its begin and its end with exits that the hypervisor's tracing can see
 * (WINDOW_BEGIN, WINDOW_END), and prints by how much each line of
 * /proc/interrupts grew, CPU by CPU.  While it reads the counters the load
 * stands still, so that they and the hypervisor's counts are of one window.
 */
void load_window(struct load *load, unsigned long sleeps);

/* load_rounds() - how many 1 ms sleeps all CPUs have done together */
unsigned long load_rounds(const struct load *load);

/*
 * The begin is a CPUID leaf: CPUID always exits, needs no privilege, and
 * reaches KVM's kvm_cpuid tracepoint with the leaf number.  The end is a
 * hypercall: from user space KVM refuses it, after its kvm_hypercall tracepoint
 * has seen the number.  "HPK" and a digit, in no range that anybody uses.
 */
#define WINDOW_BEGIN	0x48504b01u
#define WINDOW_END	0x48504b02u

void window_begin(void);
void window_end(void);

#endif
