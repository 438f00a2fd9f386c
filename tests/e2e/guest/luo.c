// SPDX-License-Identifier: MIT
/*
 * What user space of a guest of tests/e2e does: preserve memfds of many shapes, load and start the next kernel,
 * retrieve sessions. Lines of output, SESSION in hex:
 *   SESSION NAME                                           created
 *   MEMFD preserved|retrieved SESSION TOKEN SIZE POSITION SEALS SHA256
 *   FOLIOS preserved|retrieved SESSION TOKEN INDEX:PFN:PAGES:COUNT,...
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define IOCTL(nr) _IO(0xBA, nr)
#define NAME_SIZE 64
#define LINUX_REBOOT_KEXEC 0x45584543
#define KEXEC_FILE_ON_CRASH 2
#define KPF_COMPOUND_TAIL 16
#define HUGE (2UL << 20)

struct session_arg {
	uint32_t size;
	int32_t fd;
	uint8_t name[NAME_SIZE];
};

struct file_arg {
	uint32_t size;
	int32_t fd;
	uint64_t token;
};

struct finish_arg {
	uint32_t size, reserved;
};

static int open_luo(void)
{
	int luo = open("/dev/liveupdate", O_RDWR);

	if (luo < 0) {
		printf("LUO /dev/liveupdate: %s\n", strerror(errno));
		exit(1);
	}
	return luo;
}

static void hex(const char *name)
{
	for (; *name; name++)
		printf("%02x", (uint8_t)*name);
}

static int session(int luo, int nr, const char *name)
{
	struct session_arg arg = { .size = sizeof(arg), .fd = -1 };

	strncpy((char *)arg.name, name, NAME_SIZE - 1);
	if (ioctl(luo, IOCTL(nr), &arg) < 0) {
		printf("LUO %s %s: %s\n", nr ? "retrieve" : "create", name, strerror(errno));
		return -1;
	}
	if (!nr) {
		printf("SESSION ");
		hex(name);
		printf("\n");
	}
	return arg.fd;
}

static void hash(int fd, char *sum, int size)
{
	char command[64];
	FILE *out;

	snprintf(command, sizeof(command), "sha256sum < /proc/%d/fd/%d", getpid(), fd);
	fflush(stdout);
	out = popen(command, "r");
	if (!out || !fgets(sum, size, out))
		strcpy(sum, "-");
	if (out)
		pclose(out);
	sum[strcspn(sum, " \n")] = 0;
}

static uint64_t entry(const char *path, uint64_t index)
{
	int fd = open(path, O_RDONLY);
	uint64_t found = 0;

	if (pread(fd, &found, sizeof(found), index * sizeof(found)) != sizeof(found))
		found = 0;
	close(fd);
	return found;
}

/* The folios of a file as the kernel tells user space: COUNT folios of PAGES pages each, one after the other. */
static void folios(const char *what, const char *name, uint64_t token, int fd, size_t size)
{
	uint64_t page = sysconf(_SC_PAGESIZE), pages = (size + page - 1) / page;
	unsigned long long index = 0, pfn = 0, length = 0, count = 0;
	char *map = pages ? mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;

	if (map == MAP_FAILED)
		return;
	printf("FOLIOS %s ", what);
	hex(name);
	printf(" %#llx ", (unsigned long long)token);
	for (uint64_t at = 0; at < pages;) {
		uint64_t start = at, first, next;

		(void)*(volatile char *)(map + at * page);
		first = entry("/proc/self/pagemap", (uintptr_t)map / page + at) & ((1ULL << 55) - 1);
		for (at++; at < pages && entry("/proc/kpageflags", first + at - start) & 1 << KPF_COMPOUND_TAIL; at++)
			;
		next = at - start;
		if (count && next == length && first == pfn + count * length) {
			count++;
			continue;
		}
		if (count)
			printf("%llu:%llu:%llu:%llu,", index, pfn, length, count);
		index = start, pfn = first, length = next, count = 1;
	}
	printf("%llu:%llu:%llu:%llu\n", index, pfn, length, count);
	munmap(map, size);
}

static void report(const char *what, const char *name, uint64_t token, int fd)
{
	struct stat stat;
	char sum[80];

	hash(fd, sum, sizeof(sum));
	fstat(fd, &stat);
	printf("MEMFD %s ", what);
	hex(name);
	printf(" %#llx %#llx %#llx %#x %s\n", (unsigned long long)token, (unsigned long long)stat.st_size,
	       (unsigned long long)lseek(fd, 0, SEEK_CUR), fcntl(fd, F_GET_SEALS), sum);
	folios(what, name, token, fd, stat.st_size);
}

/* A memfd with a text at each `step`th byte. 0: holes only. */
static int memfd(const char *name, size_t size, size_t step)
{
	int fd = memfd_create(name, MFD_ALLOW_SEALING);
	char text[64];

	if (fd < 0 || ftruncate(fd, size))
		perror("memfd");
	for (size_t at = 0; step && at < size; at += step) {
		int length = snprintf(text, sizeof(text), "%s at %#zx\n", name, at);

		pwrite(fd, text, length < size - at ? length : size - at, at);
	}
	return fd;
}

/* A memfd of huge pages, where the kernel has them. */
static int huge(const char *name, size_t size)
{
	int fd = memfd(name, size, 0);
	char *map = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	map = (char *)(((uintptr_t)map + HUGE - 1) & -HUGE);
	map = mmap(map, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	if (map == MAP_FAILED || madvise(map, size, MADV_HUGEPAGE))
		perror("huge");
	for (size_t at = 0; at < size; at += 4096)
		snprintf(map + at, 64, "%s at %#zx\n", name, at);
	munmap(map, size);
	return fd;
}

static void preserve(int session, const char *name, uint64_t token, int fd)
{
	struct file_arg arg = { .size = sizeof(arg), .fd = fd, .token = token };

	if (ioctl(session, IOCTL(0x40), &arg) < 0)
		printf("LUO preserve %s %#llx: %s\n", name, (unsigned long long)token, strerror(errno));
	else
		report("preserved", name, token, fd);
	close(fd);
}

/* The shapes of the first live update; sessions and files beyond those of one block. Stays alive, holding them. */
static int stage(int sessions, int files, const char *tag)
{
	int luo = open_luo(), all[512], count = 0, fd;
	char name[NAME_SIZE];

	snprintf(name, sizeof(name), "shapes%s", tag);
	all[count++] = session(luo, 0, name);
	preserve(all[0], name, 0x10, memfd("plain", 1 << 20, 4096));
	preserve(all[0], name, 0x11, memfd("odd", 12345, 4096));
	preserve(all[0], name, 0x12, memfd("empty", 0, 0));
	preserve(all[0], name, 0x13, memfd("sparse", 2 << 20, 512 << 10));
	preserve(all[0], name, 0x14, memfd("holes", 256 << 10, 0));
	fd = memfd("sealed", 64 << 10, 4096);
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW);
	lseek(fd, 0x1234, SEEK_SET);
	preserve(all[0], name, 0x15, fd);
	preserve(all[0], name, 0x16, huge("huge", 3 * HUGE));
	preserve(all[0], name, UINT64_MAX, memfd("big", 8 << 20, 65536));
	snprintf(name, sizeof(name), "many files%s", tag);
	all[count++] = session(luo, 0, name);
	for (int i = 0; i < files; i++)
		preserve(all[count - 1], name, 0x1000 + i, memfd(name, 4096, 4096));
	snprintf(name, sizeof(name), "weird \x1b[31m/../\"%s", tag);
	all[count++] = session(luo, 0, name);
	preserve(all[count - 1], name, 1, memfd("weird", 5000, 1000));
	for (int i = 0; i < sessions; i++) {
		snprintf(name, sizeof(name), "many-%03d%s", i, tag);
		all[count++] = session(luo, 0, name);
	}
	printf("LUO %d sessions\n", count);
	fflush(stdout);
	if (!fork()) {
		setsid();
		for (;;)
			pause();
	}
	return 0;
}

static int load(const char *stage, int flags)
{
	char line[2048] = "";
	int at = open("/proc/cmdline", O_RDONLY), length = read(at, line, sizeof(line) - 64);

	while (length > 0 && line[length - 1] == '\n')
		line[--length] = 0;
	snprintf(line + length, sizeof(line) - length, " stage=%s", stage);
	if (syscall(SYS_kexec_file_load, open("/kernel", O_RDONLY), open("/initrd.img", O_RDONLY), strlen(line) + 1, line,
		    flags)) {
		printf("LUO kexec_file_load: %s\n", strerror(errno));
		return 1;
	}
	return 0;
}

/* retrieve FINISH SESSION TOKEN... */
static int retrieve(int count, char **words)
{
	int fd = session(open_luo(), 1, words[1]);
	struct finish_arg finish = { .size = sizeof(finish) };

	if (fd < 0)
		return 1;
	printf("LUO retrieved %s\n", words[1]);
	for (int i = 2; i < count; i++) {
		struct file_arg arg = { .size = sizeof(arg), .fd = -1, .token = strtoull(words[i], NULL, 0) };

		if (ioctl(fd, IOCTL(0x41), &arg) < 0)
			printf("LUO retrieve %s %s: %s\n", words[1], words[i], strerror(errno));
		else
			report("retrieved", words[1], arg.token, arg.fd);
	}
	if (atoi(words[0]))
		printf("LUO finish %s: %s\n", words[1], ioctl(fd, IOCTL(0x42), &finish) < 0 ? strerror(errno) : "done");
	return 0;
}

/* Write to all free memory, so that what is not preserved shows. */
static int fill(void)
{
	size_t step = 1 << 20;
	char *part;

	for (size_t done = 0;; done += step) {
		FILE *info = fopen("/proc/meminfo", "r");
		char line[128];
		long left = 0;

		while (info && fgets(line, sizeof(line), info))
			sscanf(line, "MemAvailable: %ld", &left);
		if (info)
			fclose(info);
		if (left < 48 << 10 || (part = mmap(0, step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED) {
			printf("LUO filled %zu MiB\n", done >> 20);
			fflush(stdout);
			return 0;
		}
		memset(part, 0xa5, step);
	}
}

int main(int count, char **words)
{
	if (count > 1 && !strcmp(words[1], "fill"))
		return fill();
	if (count > 3 && !strcmp(words[1], "stage"))
		return stage(atoi(words[2]), atoi(words[3]), count > 4 ? words[4] : "");
	if (count > 2 && !strcmp(words[1], "load"))
		return load(words[2], 0);
	if (count > 2 && !strcmp(words[1], "crash"))
		return load(words[2], KEXEC_FILE_ON_CRASH);
	if (count > 1 && !strcmp(words[1], "jump"))
		return syscall(SYS_reboot, 0xfee1dead, 672274793, LINUX_REBOOT_KEXEC, 0);
	if (count > 3 && !strcmp(words[1], "retrieve"))
		return retrieve(count - 2, words + 2);
	return 2;
}
