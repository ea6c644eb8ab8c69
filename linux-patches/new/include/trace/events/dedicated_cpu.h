/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints of the host side of dedicated CPUs. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM dedicated_cpu

#if !defined(_TRACE_DEDICATED_CPU_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_DEDICATED_CPU_H

#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(dedicated_cpu_vector,
		    TP_PROTO(unsigned int vector),
		    TP_ARGS(vector),
		    TP_STRUCT__entry(__field(unsigned int, vector)),
		    TP_fast_assign(__entry->vector = vector;),
		    TP_printk("vector=%#x", __entry->vector));

/* The host's work for a leased CPU, that an IPI would have carried. */
DEFINE_EVENT(dedicated_cpu_vector, dedicated_cpu_work,
	     TP_PROTO(unsigned int vector),
	     TP_ARGS(vector));

/* A guest's interrupt that came in while the core was in host mode. */
DEFINE_EVENT(dedicated_cpu_vector, dedicated_cpu_capture,
	     TP_PROTO(unsigned int vector),
	     TP_ARGS(vector));

#endif /* _TRACE_DEDICATED_CPU_H */

/* This part must be outside protection. */
#include <trace/define_trace.h>
