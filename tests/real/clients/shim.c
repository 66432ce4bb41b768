/* The kernel that the clients of ocfs2-tools need and this machine lacks. Preloaded into them (LD_PRELOAD).
 *
 * It answers two kernel calls in the kernel's place: the file system type of configfs and of dlmfs, which are plain
 * directories here, and mount(2), whose outcome the test decides. And it looks on: each byte between the client and
 * ocfs2_controld is told to the test. Nothing of the clients' own code is changed, and no byte on its way.
 *
 * What happens is one packet each on a Unix socket (its path is in OCFS2_LAB_KERNEL): a word, NUL, its arguments each
 * with a NUL behind. The test answers each with an int, 0 or an errno; until then the client stands still:
 *
 *     connect | close | write BYTES | read BYTES | mount SOURCE DIR TYPE FLAGS DATA
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CONFIGFS_MAGIC 0x62656570
#define DLMFS_MAGIC 0x76a9f425
#define CONFIGFS "/sys/kernel/config"
#define DLMFS "/dlm"
#define DAEMON "ocfs2_controld_sock"
#define PACKET 4096

static int test = -1;   /* the socket to the test */
static int tapped = -1; /* the client's connection with the daemon */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int test_socket(void)
{
	const char *path = getenv("OCFS2_LAB_KERNEL");
	struct sockaddr_un at = { .sun_family = AF_UNIX };

	if (test >= 0)
		return test;
	if (!path || strlen(path) >= sizeof(at.sun_path))
		return -1;
	strcpy(at.sun_path, path);
	test = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (test >= 0 && REAL(connect)(test, (struct sockaddr *)&at, sizeof(at)) < 0) {
		REAL(close)(test);
		test = -1;
	}
	return test;
}

/* Tell the test, and wait for its answer. Without a test, a mount fails, and nothing else changes. */
static int told(const char *packet, size_t length)
{
	int saved = errno, answer = EIO, to = test_socket();

	if (to >= 0 && (send(to, packet, length, MSG_NOSIGNAL) != (ssize_t)length ||
			recv(to, &answer, sizeof(answer), 0) != sizeof(answer)))
		answer = EIO;
	errno = saved;
	return answer;
}

static void tell_bytes(const char *word, const void *bytes, size_t length)
{
	char packet[PACKET];
	size_t head = strlen(word) + 1;

	if (length > sizeof(packet) - head)
		length = sizeof(packet) - head;
	memcpy(packet, word, head);
	memcpy(packet + head, bytes, length);
	told(packet, head + length);
}

int connect(int fd, const struct sockaddr *address, socklen_t length)
{
	const struct sockaddr_un *at = (const struct sockaddr_un *)address;
	size_t name = sizeof(DAEMON) - 1;
	int result = REAL(connect)(fd, address, length);

	if (result == 0 && at->sun_family == AF_UNIX && length == offsetof(struct sockaddr_un, sun_path) + 1 + name &&
	    at->sun_path[0] == 0 && !memcmp(at->sun_path + 1, DAEMON, name)) {
		tapped = fd;
		tell_bytes("connect", "", 0);
	}
	return result;
}

ssize_t write(int fd, const void *bytes, size_t length)
{
	if (fd == tapped && fd >= 0)
		tell_bytes("write", bytes, length);
	return REAL(write)(fd, bytes, length);
}

ssize_t read(int fd, void *bytes, size_t length)
{
	ssize_t result = REAL(read)(fd, bytes, length);

	if (fd == tapped && fd >= 0 && result >= 0)
		tell_bytes("read", bytes, result);
	return result;
}

int close(int fd)
{
	if (fd == tapped && fd >= 0) {
		tapped = -1;
		tell_bytes("close", "", 0);
	}
	return REAL(close)(fd);
}

int mount(const char *source, const char *dir, const char *type, unsigned long flags, const void *data)
{
	char packet[PACKET];
	int answer, length = snprintf(packet, sizeof(packet), "mount%c%s%c%s%c%s%c%#lx%c%s%c", 0, source, 0, dir, 0,
				      type ? type : "", 0, flags, 0, data ? (const char *)data : "", 0);

	if (length < 0 || (size_t)length >= sizeof(packet)) {
		errno = E2BIG;
		return -1;
	}
	answer = told(packet, length);
	if (answer) {
		errno = answer;
		return -1;
	}
	return 0;
}

int statfs64(const char *path, struct statfs64 *into)
{
	int result = REAL(statfs64)(path, into);

	if (result == 0 && !strcmp(path, CONFIGFS))
		into->f_type = CONFIGFS_MAGIC;
	return result;
}

int fstatfs(int fd, struct statfs *into)
{
	char link[64], at[PATH_MAX] = "";
	size_t name = sizeof(DLMFS) - 1;
	int result = REAL(fstatfs)(fd, into);
	ssize_t length;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	length = readlink(link, at, sizeof(at) - 1);
	if (result == 0 && length >= (ssize_t)name && !memcmp(at, DLMFS, name) && (at[name] == 0 || at[name] == '/'))
		into->f_type = (__typeof__(into->f_type))DLMFS_MAGIC;
	return result;
}
