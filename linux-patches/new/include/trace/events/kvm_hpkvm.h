/* SPDX-License-Identifier: GPL-2.0-only */
/* Tracepoints of KVM's dedicated cores. */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_hpkvm

#if !defined(_TRACE_KVM_HPKVM_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_KVM_HPKVM_H

#include <linux/tracepoint.h>

DECLARE_EVENT_CLASS(kvm_hpkvm_change,
		    TP_PROTO(unsigned int vcpu_id, int cpu, u32 reason),
		    TP_ARGS(vcpu_id, cpu, reason),
		    TP_STRUCT__entry(__field(unsigned int, vcpu_id)
				     __field(int, cpu)
				     __field(u32, reason)),
		    TP_fast_assign(__entry->vcpu_id = vcpu_id;
				   __entry->cpu = cpu;
				   __entry->reason = reason;),
		    TP_printk("vcpu=%u cpu=%d reason=%u",
			      __entry->vcpu_id, __entry->cpu, __entry->reason));

/* @cpu was leased, or refused for @reason. */
DEFINE_EVENT(kvm_hpkvm_change, kvm_hpkvm_bind,
	     TP_PROTO(unsigned int vcpu_id, int cpu, u32 reason),
	     TP_ARGS(vcpu_id, cpu, reason));

DEFINE_EVENT(kvm_hpkvm_change, kvm_hpkvm_unbind,
	     TP_PROTO(unsigned int vcpu_id, int cpu, u32 reason),
	     TP_ARGS(vcpu_id, cpu, reason));

/* Emulated to passthrough. */
DEFINE_EVENT(kvm_hpkvm_change, kvm_hpkvm_promote,
	     TP_PROTO(unsigned int vcpu_id, int cpu, u32 reason),
	     TP_ARGS(vcpu_id, cpu, reason));

/* Passthrough to emulated, for @reason. */
DEFINE_EVENT(kvm_hpkvm_change, kvm_hpkvm_demote,
	     TP_PROTO(unsigned int vcpu_id, int cpu, u32 reason),
	     TP_ARGS(vcpu_id, cpu, reason));

#endif /* _TRACE_KVM_HPKVM_H */

/* This part must be outside protection. */
#include <trace/define_trace.h>
