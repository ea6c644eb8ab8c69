/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that interrupt; devices.h says what each function does.
 *
 * Owns PCI's configuration ports and the IOAPIC's index register, each behind
 * a lock. It must never be called from an interrupt handler but for the acks
 * and what arms a device: a handler would wait for a lock its own CPU holds.
 */
#include "guest.h"
#include "devices.h"

#define PCI_ADDRESS             0xcf8
#define PCI_DATA                0xcfc
#define PCI_ID                  0x00
#define PCI_COMMAND             0x04
#define PCI_COMMAND_MEMORY      0x2
#define PCI_COMMAND_MASTER      0x4
#define PCI_BAR0                0x10
#define PCI_CAPABILITIES        0x34
#define PCI_CAP_MSI             5
#define MSI_CONTROL_ENABLE      (1u << 16)
/* The LPC bridge of a q35, and its registers that route pins to the 8259. */
#define LPC_BDF                 (0x1f << 3)
#define LPC_PIRQA               0x60
#define LPC_PIRQE               0x68
#define LPC_PIRQ_OFF            0x80u
#define MSI_BASE                0xfee00000u

#define EDU_ID                  0x11e81234u
#define EDU_STATUS              0x24
#define EDU_RAISE               0x60
#define EDU_ACK                 0x64
#define Q35_GSI_PIRQE           20      /* INTA of slot s is PIRQ E + s % 4 */

#define IOAPIC                  0xfec00000u
#define IOAPIC_WINDOW           0x10
#define IOAPIC_RTE(gsi)         (0x10 + 2 * (gsi))
#define RTE_LEVEL               (1u << 15)
#define RTE_MASKED              (1u << 16)

#define HPET                    0xfed00000u
#define HPET_ID                 0x000
#define HPET_CONFIG             0x010
#define HPET_CONFIG_ENABLE      1
#define HPET_STATUS             0x020
#define HPET_COUNTER            0x0f0
#define HPET_TIMER(n, reg)      (0x100 + 0x20 * (n) + (reg))
#define HPET_TN_CONFIG          0x00
#define HPET_TN_COMPARE         0x08
#define HPET_TN_FSB             0x10
#define HPET_TN_LEVEL           (1u << 1)
#define HPET_TN_ENABLE          (1u << 2)
#define HPET_TN_ROUTE(gsi)      ((gsi) << 9)
#define HPET_TN_FSB_ENABLE      (1u << 14)
#define HPET_TN_FSB_CAPABLE     (1u << 15)
#define HPET_NEVER              (1ull << 40)    /* three hours */

static uint32_t read32(uint64_t at)
{
    uint32_t v;

    asm volatile("movl (%1), %0" : "=r"(v) : "r"(at) : "memory");
    return v;
}

static void write32(uint64_t at, uint32_t v)
{
    asm volatile("movl %0, (%1)" : : "r"(v), "r"(at) : "memory");
}

static uint64_t read64(uint64_t at)
{
    uint64_t v;

    asm volatile("movq (%1), %0" : "=r"(v) : "r"(at) : "memory");
    return v;
}

static void write64(uint64_t at, uint64_t v)
{
    asm volatile("movq %0, (%1)" : : "r"(v), "r"(at) : "memory");
}

static void lock(bool *l)
{
    while (__atomic_test_and_set(l, __ATOMIC_ACQUIRE)) {
        cpu_pause();
    }
}

static void unlock(bool *l)
{
    __atomic_clear(l, __ATOMIC_RELEASE);
}

/* ---- PCI ---- */

static bool pci_lock;

static uint32_t pci_access(uint16_t bdf, unsigned reg, const uint32_t *val)
{
    uint32_t v;

    lock(&pci_lock);
    outl(PCI_ADDRESS, 1u << 31 | bdf << 8 | reg);
    if (val) {
        v = *val;
        outl(PCI_DATA, v);
    } else {
        asm volatile("inl %1, %0" : "=a"(v) : "Nd"((uint16_t)PCI_DATA));
    }
    unlock(&pci_lock);
    return v;
}

static uint32_t pci_read(uint16_t bdf, unsigned reg)
{
    return pci_access(bdf, reg, NULL);
}

static void pci_write(uint16_t bdf, unsigned reg, uint32_t val)
{
    pci_access(bdf, reg, &val);
}

static uint8_t pci_capability(uint16_t bdf, uint8_t id)
{
    uint8_t at = pci_read(bdf, PCI_CAPABILITIES);

    while (at && (pci_read(bdf, at) & 0xff) != id) {
        at = pci_read(bdf, at) >> 8;
    }
    return at;
}

/* ---- IOAPIC ---- */

static void ioapic_write(unsigned reg, uint32_t val)
{
    write32(IOAPIC, reg);
    write32(IOAPIC + IOAPIC_WINDOW, val);
}

void ioapic_route_level(unsigned gsi, uint8_t vector, uint32_t apic_id)
{
    static bool ioapic_lock;

    lock(&ioapic_lock);
    /* Never half a route. */
    ioapic_write(IOAPIC_RTE(gsi), RTE_MASKED);
    ioapic_write(IOAPIC_RTE(gsi) + 1, apic_id << 24);
    ioapic_write(IOAPIC_RTE(gsi), RTE_LEVEL | vector);
    unlock(&ioapic_lock);
}

/* ---- edu ---- */

/*
 * As an OS with an IOAPIC does: a pin that goes to the 8259 does not interrupt
 * through the IOAPIC if its device is a host's, given to this machine.
 */
static void pirqs_off(void)
{
    pci_write(LPC_BDF, LPC_PIRQA, 0x01010101 * LPC_PIRQ_OFF);
    pci_write(LPC_BDF, LPC_PIRQE, 0x01010101 * LPC_PIRQ_OFF);
}

bool edu_find(struct edu *e, unsigned n)
{
    for (unsigned slot = 0; slot < 32; slot++) {
        uint16_t bdf = slot << 3;

        if (pci_read(bdf, PCI_ID) != EDU_ID || n--) {
            continue;
        }
        pirqs_off();
        pci_write(bdf, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        e->bdf = bdf;
        e->regs = pci_read(bdf, PCI_BAR0) & ~0xfu;
        e->msi = pci_capability(bdf, PCI_CAP_MSI);
        e->gsi = Q35_GSI_PIRQE + slot % 4;
        return true;
    }
    return false;
}

void edu_use_message(struct edu *e, uint32_t data, uint32_t apic_id)
{
    pci_write(e->bdf, e->msi + 4, MSI_BASE | apic_id << 12);
    pci_write(e->bdf, e->msi + 8, 0);
    pci_write(e->bdf, e->msi + 12, data);
    pci_write(e->bdf, e->msi, pci_read(e->bdf, e->msi) | MSI_CONTROL_ENABLE);
}

void edu_use_msi(struct edu *e, uint8_t vector, uint32_t apic_id)
{
    edu_use_message(e, vector, apic_id);
}

void edu_no_msi(struct edu *e)
{
    pci_write(e->bdf, e->msi, pci_read(e->bdf, e->msi) & ~MSI_CONTROL_ENABLE);
}

void edu_raise(struct edu *e)
{
    write32(e->regs + EDU_RAISE, 1);
}

bool edu_ack(struct edu *e)
{
    uint32_t status = read32(e->regs + EDU_STATUS);

    write32(e->regs + EDU_ACK, status);
    return status;
}

/* ---- HPET ---- */

static uint64_t hpet_read(unsigned reg)
{
    return read64(HPET + reg);
}

static void hpet_write(unsigned reg, uint64_t val)
{
    write64(HPET + reg, val);
}

unsigned hpet_start(void)
{
    uint64_t id = hpet_read(HPET_ID);

    if (id >> 32 == 0 || id >> 32 == 0xffffffff) {
        return 0;
    }
    hpet_write(HPET_CONFIG, HPET_CONFIG_ENABLE);
    return (id >> 8 & 0x1f) + 1;
}

uint64_t hpet_counter(void)
{
    return hpet_read(HPET_COUNTER);
}

/* A write to the configuration starts the timer: with nothing to do. */
static void hpet_configure(unsigned n, uint32_t config)
{
    hpet_write(HPET_TIMER(n, HPET_TN_COMPARE), hpet_counter() + HPET_NEVER);
    hpet_write(HPET_TIMER(n, HPET_TN_CONFIG), config | HPET_TN_ENABLE);
}

bool hpet_use_msi(unsigned n)
{
    if (!(hpet_read(HPET_TIMER(n, HPET_TN_CONFIG)) & HPET_TN_FSB_CAPABLE)) {
        return false;
    }
    hpet_configure(n, HPET_TN_FSB_ENABLE);
    return true;
}

void hpet_set_msi(unsigned n, uint8_t vector, uint32_t apic_id)
{
    hpet_write(HPET_TIMER(n, HPET_TN_FSB),
               (uint64_t)(MSI_BASE | apic_id << 12) << 32 | vector);
}

void hpet_use_level(unsigned n, unsigned gsi)
{
    hpet_configure(n, HPET_TN_LEVEL | HPET_TN_ROUTE(gsi));
}

void hpet_arm(unsigned n, uint32_t ticks)
{
    hpet_write(HPET_TIMER(n, HPET_TN_COMPARE), hpet_counter() + ticks);
}

bool hpet_ack(unsigned n)
{
    bool wanted = hpet_read(HPET_STATUS) >> n & 1;

    hpet_write(HPET_STATUS, 1u << n);
    return wanted;
}
