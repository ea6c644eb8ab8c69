# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of exit codes, MSRs and KVM hypercalls.

Exit codes as in the AMD64 manual, volume 2, appendix C, and in Intel's,
volume 3, appendix C (and Linux's arch/x86/include/uapi/asm/svm.h and vmx.h);
MSRs as in both.
"""

import collections

# What the checks ask for by its role, of one vendor: a name for each exit code,
# and the codes of external interrupts and of what waits for one to be taken, of
# HLT and MWAIT, of MSR accesses, and of what marks a window's begin and end.
Vendor = collections.namedtuple('Vendor', 'exits interrupt halt msr marks')

SVM = {
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
SVM.update({0x00 + n: f'READ_CR{n}' for n in range(16)})
SVM.update({0x10 + n: f'WRITE_CR{n}' for n in range(16)})
SVM.update({0x20 + n: f'READ_DR{n}' for n in range(16)})
SVM.update({0x30 + n: f'WRITE_DR{n}' for n in range(16)})
SVM.update({0x40 + n: f'EXCP{n}' for n in range(32) if n != 0x12})
SVM[0x52] = 'EXCP18'

VMX = {
    0: 'EXCEPTION_NMI', 1: 'EXTERNAL_INTERRUPT', 2: 'TRIPLE_FAULT',
    3: 'INIT_SIGNAL', 4: 'SIPI_SIGNAL', 7: 'INTERRUPT_WINDOW',
    8: 'NMI_WINDOW', 9: 'TASK_SWITCH', 10: 'CPUID', 12: 'HLT', 13: 'INVD',
    14: 'INVLPG', 15: 'RDPMC', 16: 'RDTSC', 18: 'VMCALL', 19: 'VMCLEAR',
    20: 'VMLAUNCH', 21: 'VMPTRLD', 22: 'VMPTRST', 23: 'VMREAD',
    24: 'VMRESUME', 25: 'VMWRITE', 26: 'VMOFF', 27: 'VMON', 28: 'CR_ACCESS',
    29: 'DR_ACCESS', 30: 'IO_INSTRUCTION', 31: 'MSR_READ', 32: 'MSR_WRITE',
    33: 'INVALID_STATE', 34: 'MSR_LOAD_FAIL', 36: 'MWAIT_INSTRUCTION',
    37: 'MONITOR_TRAP_FLAG', 39: 'MONITOR_INSTRUCTION',
    40: 'PAUSE_INSTRUCTION', 41: 'MCE_DURING_VMENTRY',
    43: 'TPR_BELOW_THRESHOLD', 44: 'APIC_ACCESS', 45: 'EOI_INDUCED',
    46: 'GDTR_IDTR', 47: 'LDTR_TR', 48: 'EPT_VIOLATION',
    49: 'EPT_MISCONFIG', 50: 'INVEPT', 51: 'RDTSCP',
    52: 'PREEMPTION_TIMER', 53: 'INVVPID', 54: 'WBINVD', 55: 'XSETBV',
    56: 'APIC_WRITE', 57: 'RDRAND', 58: 'INVPCID', 59: 'VMFUNC', 60: 'ENCLS',
    61: 'RDSEED', 62: 'PML_FULL', 63: 'XSAVES', 64: 'XRSTORS', 67: 'UMWAIT',
    68: 'TPAUSE', 74: 'BUS_LOCK', 75: 'NOTIFY',
}

VENDORS = {
    'svm': Vendor(SVM, interrupt=(0x60, 0x64), halt=(0x78, 0x8a, 0x8b, 0x8c),
                  msr=(0x7c,), marks=(0x72, 0x81)),
    # VMMCALL is not an instruction there: KVM patches it after the exception.
    'vmx': Vendor(VMX, interrupt=(1, 7), halt=(12, 36, 39), msr=(31, 32),
                  marks=(0, 10, 18)),
}

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


def exit_name(vendor, code):
    return vendor.exits.get(code, f'unknown {code:#x}')


def msr_name(number):
    return MSR.get(number, f'MSR {number:#x}')
