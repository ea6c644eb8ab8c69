/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Snapshots of /proc/interrupts and the difference of two.
 *
 * Owns the parsing.  Taking a snapshot only copies the text; it is parsed when
 * printed, after the measured window.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interrupts.h"

#define TEXT_SIZE	32768
#define NAME_SIZE	16
#define MAX_CPUS	16

struct interrupts {
	char text[TEXT_SIZE];
};

struct line {
	char name[NAME_SIZE];
	int cpus;
	unsigned long count[MAX_CPUS];
};

struct interrupts *interrupts_alloc(void)
{
	struct interrupts *snapshot = malloc(sizeof(*snapshot));

	if (snapshot)
		memset(snapshot, 0, sizeof(*snapshot));
	return snapshot;
}

void interrupts_read(struct interrupts *snapshot)
{
	int fd = open("/proc/interrupts", O_RDONLY);
	size_t used = 0;
	ssize_t got;

	if (fd < 0) {
		perror("/proc/interrupts");
		exit(1);
	}
	while ((got = read(fd, snapshot->text + used,
			   TEXT_SIZE - 1 - used)) > 0)
		used += got;
	close(fd);
	snapshot->text[used] = '\0';
}

/* Parse one line; false for the heading and for lines without counts. */
static bool parse(const char *text, struct line *line)
{
	char *end;

	memset(line, 0, sizeof(*line));
	if (sscanf(text, " %15[A-Za-z0-9]:", line->name) != 1)
		return false;
	text = strchr(text, ':');
	if (!text)
		return false;
	for (text++; line->cpus < MAX_CPUS; line->cpus++, text = end) {
		line->count[line->cpus] = strtoul(text, &end, 10);
		/* A number glued to a word belongs to the description. */
		if (end == text || (*end != ' ' && *end != '\n'))
			break;
	}
	return line->cpus > 0;
}

static const char *next_line(const char *text)
{
	text = strchr(text, '\n');
	return text && text[1] ? text + 1 : NULL;
}

static bool find(const char *text, const char *name, struct line *line)
{
	for (; text; text = next_line(text))
		if (parse(text, line) && !strcmp(line->name, name))
			return true;
	return false;
}

void interrupts_print_growth(const struct interrupts *before,
			     const struct interrupts *after)
{
	for (const char *text = after->text; text; text = next_line(text)) {
		struct line now, then;
		unsigned long grown = 0;

		if (!parse(text, &now))
			continue;
		if (!find(before->text, now.name, &then))
			memset(&then, 0, sizeof(then));
		for (int i = 0; i < now.cpus; i++)
			grown += now.count[i] -= then.count[i];
		if (!grown)
			continue;
		printf("irq: %s", now.name);
		for (int i = 0; i < now.cpus; i++)
			printf(" %lu", now.count[i]);
		printf("\n");
	}
}
