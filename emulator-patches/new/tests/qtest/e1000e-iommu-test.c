/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest: e1000e behind an IOMMU sends packets whose buffer is contiguous for
 * the guest but not in memory.
 */
#include "qemu/osdep.h"
#include <poll.h>
#include "libqtest-single.h"
#include "libqos/pci-pc.h"
#include "hw/i386/intel_iommu_internal.h"
#include "hw/net/e1000_regs.h"

#ifndef _WIN32

#define NIC_SLOT        4
#define PAGE            4096

/* Memory: the tables of the IOMMU, then what the NIC uses. */
#define ROOT_TABLE      0x100000
#define CONTEXT_TABLE   0x101000
#define PAGE_TABLES     0x102000        /* three levels, one table each */
#define RING            0x200000
#define BUFFER_FIRST    0x300000        /* two pages that are not neighbours */
#define BUFFER_SECOND   0x500000

/* What the NIC sees: page 0 is the ring, pages 1 and 2 are the buffer. */
#define BUFFER_DMA      (PAGE + 3000)
#define PACKET          1400
#define RING_BYTES      128

static void write_entry(uint64_t table, unsigned index, uint64_t entry)
{
    writeq(table + index * sizeof(entry), entry);
}

/* VT-d spec. 3.4 and 3.7: legacy mode, 39-bit second-stage translation. */
static void set_up_iommu(void)
{
    const uint64_t rw = VTD_SL_R | VTD_SL_W;
    const uint64_t context = CONTEXT_TABLE + QPCI_DEVFN(NIC_SLOT, 0) * 16;

    writeq(ROOT_TABLE, CONTEXT_TABLE | VTD_ROOT_ENTRY_P);
    writeq(context, PAGE_TABLES | VTD_CONTEXT_ENTRY_P);
    writeq(context + 8, 1 /* three levels */ | 1 << 8 /* domain */);
    write_entry(PAGE_TABLES, 0, (PAGE_TABLES + PAGE) | rw);
    write_entry(PAGE_TABLES + PAGE, 0, (PAGE_TABLES + 2 * PAGE) | rw);
    write_entry(PAGE_TABLES + 2 * PAGE, 0, RING | rw);
    write_entry(PAGE_TABLES + 2 * PAGE, 1, BUFFER_FIRST | rw);
    write_entry(PAGE_TABLES + 2 * PAGE, 2, BUFFER_SECOND | rw);

    writeq(Q35_HOST_BRIDGE_IOMMU_ADDR + DMAR_RTADDR_REG, ROOT_TABLE);
    writel(Q35_HOST_BRIDGE_IOMMU_ADDR + DMAR_GCMD_REG, VTD_GCMD_SRTP);
    writel(Q35_HOST_BRIDGE_IOMMU_ADDR + DMAR_GCMD_REG, VTD_GCMD_TE);
    g_assert_cmphex(readl(Q35_HOST_BRIDGE_IOMMU_ADDR + DMAR_GSTS_REG) &
                    VTD_GSTS_TES, ==, VTD_GSTS_TES);
}

static void fill(uint8_t *packet)
{
    for (int i = 0; i < PACKET; i++) {
        packet[i] = i * 7;
    }
    /* For everybody, of an EtherType for local experiments. */
    memset(packet, 0xff, 6);
    packet[12] = 0x88;
    packet[13] = 0xb5;
}

static void write_buffer(const uint8_t *packet)
{
    const unsigned offset = BUFFER_DMA % PAGE, first = PAGE - offset;

    memwrite(BUFFER_FIRST + offset, packet, first);
    memwrite(BUFFER_SECOND, packet + first, PACKET - first);
}

static void transmit(QPCIDevice *dev, QPCIBar bar)
{
    struct e1000_tx_desc desc = {
        .buffer_addr = cpu_to_le64(BUFFER_DMA),
        .lower.data = cpu_to_le32(PACKET | E1000_TXD_CMD_EOP |
                                  E1000_TXD_CMD_IFCS | E1000_TXD_CMD_RS),
    };

    memwrite(RING, &desc, sizeof(desc));
    qpci_io_writel(dev, bar, E1000_TDBAL, 0);
    qpci_io_writel(dev, bar, E1000_TDBAH, 0);
    qpci_io_writel(dev, bar, E1000_TDLEN, RING_BYTES);
    qpci_io_writel(dev, bar, E1000_TDH, 0);
    qpci_io_writel(dev, bar, E1000_TDT, 0);
    qpci_io_writel(dev, bar, E1000_TCTL, E1000_TCTL_EN);
    qpci_io_writel(dev, bar, E1000_TDT, 1);
    g_assert_cmpuint(qpci_io_readl(dev, bar, E1000_TDH), ==, 1);
}

/* Of a netdev socket: a length, then the packet. */
static void receive(int fd, uint8_t *packet)
{
    struct pollfd readable = { .fd = fd, .events = POLLIN };
    uint32_t len;

    g_assert_cmpint(poll(&readable, 1, 10000), ==, 1);
    g_assert_cmpint(recv(fd, &len, sizeof(len), MSG_WAITALL), ==, sizeof(len));
    g_assert_cmpuint(ntohl(len), ==, PACKET);
    g_assert_cmpint(recv(fd, packet, PACKET, MSG_WAITALL), ==, PACKET);
}

static void test_split_buffer(void)
{
    uint8_t sent[PACKET], received[PACKET];
    QPCIDevice *dev;
    QPCIBus *bus;
    QPCIBar bar;
    int sv[2];

    g_assert_cmpint(socketpair(PF_UNIX, SOCK_STREAM, 0, sv), ==, 0);
    global_qtest = qtest_initf("-M q35 -nodefaults -device intel-iommu "
                               "-netdev socket,fd=%d,id=n -device e1000e,"
                               "netdev=n,addr=%d,romfile=", sv[1], NIC_SLOT);
    bus = qpci_new_pc(global_qtest, NULL);
    dev = qpci_device_find(bus, QPCI_DEVFN(NIC_SLOT, 0));
    g_assert_nonnull(dev);
    qpci_device_enable(dev);
    bar = qpci_iomap(dev, 0, NULL);

    set_up_iommu();
    fill(sent);
    write_buffer(sent);
    transmit(dev, bar);
    receive(sv[0], received);
    g_assert_cmpmem(sent, PACKET, received, PACKET);

    g_free(dev);
    qpci_free_pc(bus);
    qtest_quit(global_qtest);
    close(sv[0]);
    close(sv[1]);
}

#endif

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#ifndef _WIN32
    if (qtest_has_device("e1000e") && qtest_has_device("intel-iommu")) {
        qtest_add_func("e1000e/iommu/split_buffer", test_split_buffer);
    }
#endif
    return g_test_run();
}
