/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints of the host side of dedicated CPUs. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dedicated_cpu

#if !defined(_TRACE_DEDICATED_CPU_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DEDICATED_CPU_H

#include <linux/tracepoint.h>
#include <asm/irq_vectors.h>

#define show_host_vector(vector)				\
	__print_symbolic(vector,				\
		{ RESCHEDULE_VECTOR, "reschedule" },		\
		{ CALL_FUNCTION_VECTOR, "call" },		\
		{ CALL_FUNCTION_SINGLE_VECTOR, "call" },	\
		{ IRQ_WORK_VECTOR, "irq_work" },		\
		{ LOCAL_TIMER_VECTOR, "timer" },		\
		{ POSTED_INTR_VECTOR, "posted" },		\
		{ POSTED_INTR_NESTED_VECTOR, "posted" },	\
		{ POSTED_INTR_WAKEUP_VECTOR, "posted" },	\
		{ REBOOT_VECTOR, "reboot" })

DECLARE_EVENT_CLASS(dedicated_cpu_vector,
		    TP_PROTO(unsigned int vector),
		    TP_ARGS(vector),
		    TP_STRUCT__entry(__field(unsigned int, vector)),
		    TP_fast_assign(__entry->vector = vector;),
		    TP_printk("vector=%#x", __entry->vector));

/* The host's work for a leased CPU, that an IPI would have carried. */
DEFINE_EVENT_PRINT(dedicated_cpu_vector, dedicated_cpu_work,
		   TP_PROTO(unsigned int vector),
		   TP_ARGS(vector),
		   TP_printk("vector=%#x %s", __entry->vector,
			     show_host_vector(__entry->vector)));

/* A guest's interrupt that came in while the core was in host mode. */
DEFINE_EVENT(dedicated_cpu_vector, dedicated_cpu_capture,
	     TP_PROTO(unsigned int vector),
	     TP_ARGS(vector));

#endif /* _TRACE_DEDICATED_CPU_H */

/* This part must be outside protection. */
#include <trace/define_trace.h>
