# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of SVM exit codes, MSRs and KVM hypercalls.

Exit codes as in the AMD64 manual, volume 2, appendix C (and Linux's
arch/x86/include/uapi/asm/svm.h); MSRs as in Intel's and AMD's manuals.
"""

EXIT = {
    0x52: 'INIT_RECEIVED', 0x60: 'INTR', 0x61: 'NMI', 0x62: 'SMI',
    0x63: 'INIT', 0x64: 'VINTR', 0x65: 'CR0_SEL_WRITE', 0x6a: 'IDTR_WRITE',
    0x6e: 'RDTSC', 0x6f: 'RDPMC', 0x72: 'CPUID', 0x73: 'RSM', 0x74: 'IRET',
    0x75: 'SWINT', 0x76: 'INVD', 0x77: 'PAUSE', 0x78: 'HLT', 0x79: 'INVLPG',
    0x7a: 'INVLPGA', 0x7b: 'IOIO', 0x7c: 'MSR', 0x7d: 'TASK_SWITCH',
    0x7e: 'FERR_FREEZE', 0x7f: 'SHUTDOWN', 0x80: 'VMRUN', 0x81: 'VMMCALL',
    0x82: 'VMLOAD', 0x83: 'VMSAVE', 0x84: 'STGI', 0x85: 'CLGI',
    0x86: 'SKINIT', 0x87: 'RDTSCP', 0x88: 'ICEBP', 0x89: 'WBINVD',
    0x8a: 'MONITOR', 0x8b: 'MWAIT', 0x8c: 'MWAIT_COND', 0x8d: 'XSETBV',
    0x8e: 'RDPRU', 0x8f: 'EFER_WRITE_TRAP', 0xa2: 'INVPCID', 0x400: 'NPF',
    0x401: 'AVIC_INCOMPLETE_IPI', 0x402: 'AVIC_UNACCELERATED_ACCESS',
    0x403: 'VMGEXIT',
}
EXIT.update({0x00 + n: f'READ_CR{n}' for n in range(16)})
EXIT.update({0x10 + n: f'WRITE_CR{n}' for n in range(16)})
EXIT.update({0x20 + n: f'READ_DR{n}' for n in range(16)})
EXIT.update({0x30 + n: f'WRITE_DR{n}' for n in range(16)})
EXIT.update({0x40 + n: f'EXCP{n}' for n in range(32) if n != 0x12})
EXIT[0x52] = 'EXCP18'

MSR = {
    0x10: 'TSC', 0x3b: 'TSC_ADJUST', 0x6e0: 'TSC_DEADLINE',
    0x802: 'x2APIC ID', 0x808: 'x2APIC TPR', 0x80b: 'x2APIC EOI',
    0x80f: 'x2APIC SVR', 0x828: 'x2APIC ESR', 0x830: 'x2APIC ICR',
    0x832: 'x2APIC LVTT', 0x838: 'x2APIC TMICT', 0x839: 'x2APIC TMCCT',
    0x83e: 'x2APIC TDCR', 0x83f: 'x2APIC SELF_IPI',
    0x4b564d00: 'KVM WALL_CLOCK', 0x4b564d01: 'KVM SYSTEM_TIME',
    0x4b564d02: 'KVM ASYNC_PF_EN', 0x4b564d03: 'KVM STEAL_TIME',
    0x4b564d04: 'KVM PV_EOI_EN', 0x4b564d05: 'KVM POLL_CONTROL',
    0x4b564d06: 'KVM ASYNC_PF_INT', 0x4b564d07: 'KVM ASYNC_PF_ACK',
    0xc0000080: 'EFER', 0xc0000101: 'GS_BASE', 0xc0000102: 'KERNEL_GS_BASE',
}

HYPERCALL = {5: 'KICK_CPU', 9: 'CLOCK_PAIRING', 10: 'SEND_IPI',
             11: 'SCHED_YIELD', 12: 'MAP_GPA_RANGE'}
HYPERCALL_SEND_IPI = 10


def exit_name(code):
    return EXIT.get(code, f'unknown {code:#x}')


def msr_name(number):
    return MSR.get(number, f'MSR {number:#x}')
