/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The other end of a test guest's network: gives an interface an address, and
 * sends back what comes to TCP port 7.
 *
 *     net-peer INTERFACE ADDRESS
 *
 * Ends by a signal only. Needs root.
 * It must never look at what it sends back: the guest does.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define ECHO_PORT       7
#define NETMASK         "255.255.255.0"

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void set_address(int s, const char *interface, int request,
                        const char *address)
{
    struct ifreq ifr = { 0 };
    struct sockaddr_in *in = (struct sockaddr_in *)&ifr.ifr_addr;

    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
    in->sin_family = AF_INET;
    if (inet_pton(AF_INET, address, &in->sin_addr) != 1 ||
        ioctl(s, request, &ifr)) {
        fail(interface);
    }
}

static void bring_up(const char *interface, const char *address)
{
    struct ifreq ifr = { 0 };
    int s = socket(AF_INET, SOCK_DGRAM, 0);

    set_address(s, interface, SIOCSIFADDR, address);
    set_address(s, interface, SIOCSIFNETMASK, NETMASK);
    snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", interface);
    if (ioctl(s, SIOCGIFFLAGS, &ifr)) {
        fail(interface);
    }
    ifr.ifr_flags |= IFF_UP;
    if (ioctl(s, SIOCSIFFLAGS, &ifr)) {
        fail(interface);
    }
    close(s);
}

static void *echo(void *arg)
{
    int s = (intptr_t)arg;
    char buf[65536];
    ssize_t n;

    while ((n = read(s, buf, sizeof(buf))) > 0) {
        for (ssize_t done = 0; done < n;) {
            ssize_t written = write(s, buf + done, n - done);

            if (written <= 0) {
                close(s);
                return NULL;
            }
            done += written;
        }
    }
    close(s);
    return NULL;
}

int main(int argc, char **argv)
{
    struct sockaddr_in any = {
        .sin_family = AF_INET,
        .sin_port = htons(ECHO_PORT),
    };
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int on = 1;

    if (argc != 3) {
        fprintf(stderr, "usage: net-peer INTERFACE ADDRESS\n");
        return 2;
    }
    bring_up(argv[1], argv[2]);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(listener, (struct sockaddr *)&any, sizeof(any)) ||
        listen(listener, 4)) {
        fail("net-peer");
    }
    for (;;) {
        intptr_t s = accept(listener, NULL, NULL);
        pthread_t thread;

        if (s >= 0 && !pthread_create(&thread, NULL, echo, (void *)s)) {
            pthread_detach(thread);
        }
    }
}
