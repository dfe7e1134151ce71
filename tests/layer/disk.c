/* A disk that fails on demand, as an LD_PRELOAD library, for files under one folder.
 *
 * TOLLGATE_DISK_FOLDER names the folder (canonical, absolute), TOLLGATE_DISK_BASE a folder outside of it with
 *
 *   control   struct control below, mapped by every process under the layer: what is written there counts at once
 *   live/     what is left of the folder when the power goes, where `shadow` is set
 *   store/    synced content by inode: hard links of the files in live/
 *
 * The shadow. A sync of a file copies what the file holds at that moment; its name appears in live/ with it (ext4 and
 * xfs commit the new name with the inode). Everything else about names (unlink, rename, a file that was never synced)
 * reaches live/ when its folder is synced, and not before: a file that is renamed into a synced folder without a sync of
 * its own is then empty. What a killed process wrote and did not sync stays visible in the folder, as in the page cache,
 * and is in live/ only once somebody syncs that file again. After a sync that failed, the kernel takes the pages for
 * written: blocks that are not written anew stay lost, whatever later syncs say (`store/INODE.lost`).
 *
 * Not covered: calls that do not go through libc (raw system calls), mmapped writes (SQLite's -shm is ignored), a sync
 * that writes a part of what it should, writes of the kernel's own between two syncs (a crash may keep more than what
 * was synced; this layer never does).
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    uint32_t slow_ms;  /* 0: each sync takes this much more */
    uint32_t stall;    /* 4: 1 syncs, 2 writes, 3 both: block until this is 0 */
    uint32_t failsync; /* 8: 1 the next sync fails, 2 all do */
    uint32_t full;     /* 12: 1 there is no room for any write, 2 for none that grows a file */
    uint32_t shadow;   /* 16: keep live/ */
    uint32_t syncs;    /* 20: syncs that ended well */
    uint32_t blocked;  /* 24: calls that wait in a stall */
    uint32_t failed;   /* 28: syncs that failed */
    uint32_t refused;  /* 32: writes for which there was no room */
    uint32_t pad[7];
    char only[64];     /* 64: faults of syncs and stalls meet only files whose name ends so; empty: all */
};

#define BLOCK 4096
static struct control *control;
static const char *folder, *base;
static size_t folder_length;
static dev_t device;

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) {
        abort();
    }
    return found;
}

__attribute__((constructor)) static void begin(void) {
    folder = getenv("TOLLGATE_DISK_FOLDER");
    base = getenv("TOLLGATE_DISK_BASE");
    if (!folder || !base) {
        return;
    }
    struct stat stat_of;
    if (stat(folder, &stat_of)) {
        return;
    }
    /* PostgreSQL writes its title over the environment. */
    folder = strdup(folder);
    base = strdup(base);
    device = stat_of.st_dev;
    folder_length = strlen(folder);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/control", base);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    void *map = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    control = map == MAP_FAILED ? NULL : map;
}

static uint32_t said(uint32_t *field) { return __atomic_load_n(field, __ATOMIC_SEQ_CST); }
static void add(uint32_t *field, uint32_t n) { __atomic_add_fetch(field, n, __ATOMIC_SEQ_CST); }

static int ends(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* The path within the folder ("" is the folder itself) of what is open here; NULL where it is none of ours. */
static const char *ours(int fd, char *buffer) {
    if (!control) {
        return NULL;
    }
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, buffer, PATH_MAX - 1);
    if (n < (ssize_t)folder_length) {
        return NULL;
    }
    buffer[n] = 0;
    if (strncmp(buffer, folder, folder_length) || ends(buffer, "-shm")) {
        return NULL;
    }
    if (!buffer[folder_length]) {
        return buffer + folder_length;
    }
    if (buffer[folder_length] != '/') {
        return NULL;
    }
    return ends(buffer, " (deleted)") ? NULL : buffer + folder_length + 1;
}

static int meant(const char *name) { return !control->only[0] || ends(name, control->only); }

static void wait_ms(uint32_t ms) {
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&time, &time) && errno == EINTR) {
    }
}

static void stalled(const char *name, uint32_t which) {
    if (!(said(&control->stall) & which) || !meant(name)) {
        return;
    }
    add(&control->blocked, 1);
    while (said(&control->stall) & which) {
        wait_ms(1);
    }
    add(&control->blocked, -1);
}

/* ---- the shadow ---- */

static void parents(char *path) {
    for (char *at = path + strlen(base) + 1; (at = strchr(at, '/')); at++) {
        *at = 0;
        mkdir(path, 0700);
        *at = '/';
    }
}

static void temporary(char *path, const char *what) {
    static uint32_t next;
    snprintf(path, PATH_MAX, "%s/store/.%s.%d.%u", base, what, (int)getpid(),
             __atomic_add_fetch(&next, 1, __ATOMIC_SEQ_CST));
}

static void stored(char *path, ino_t inode, const char *end) {
    snprintf(path, PATH_MAX, "%s/store/%llu%s", base, (unsigned long long)inode, end);
}

/* live/name becomes a link of `content`. */
static void publish(const char *content, const char *name) {
    char link_path[PATH_MAX], to[PATH_MAX * 2];
    temporary(link_path, "link");
    snprintf(to, sizeof to, "%s/live/%s", base, name);
    parents(to);
    if (!link(content, link_path)) {
        ((int (*)(const char *, const char *))real("rename"))(link_path, to);
        /* rename(2) does nothing between two links of one file. */
        ((int (*)(const char *))real("unlink"))(link_path);
    }
}

/* Copies a file; blocks that an earlier failed sync lost, and nobody wrote since, keep their durable content. */
static void copy(int from, const char *to, const char *durable, const char *lost) {
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int was = open(durable, O_RDONLY | O_CLOEXEC);
    int gone = open(lost, O_RDONLY | O_CLOEXEC);
    ssize_t (*put)(int, const void *, size_t, off_t) = real("pwrite");
    const size_t much = 64 * BLOCK;
    char *now = malloc(much), mark;
    off_t at = 0;
    ssize_t n;
    while (out >= 0 && now && (n = pread(from, now, much, at)) > 0) {
        for (ssize_t i = 0; gone >= 0 && i < n; i += BLOCK) {
            ssize_t part = n - i < BLOCK ? n - i : BLOCK;
            if (pread(gone, &mark, 1, (at + i) / BLOCK) == 1 && mark) {
                memset(now + i, 0, part);
                if (was >= 0 && pread(was, now + i, part, at + i) < 0) {
                    memset(now + i, 0, part);
                }
            }
        }
        put(out, now, n, at);
        at += n;
    }
    free(now);
    if (out >= 0) close(out);
    if (was >= 0) close(was);
    if (gone >= 0) close(gone);
}

static void synced_file(int fd, const char *name, ino_t inode) {
    char proc[64], new[PATH_MAX], content[PATH_MAX], lost[PATH_MAX];
    snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    int from = open(proc, O_RDONLY | O_CLOEXEC);
    if (from < 0) {
        return;
    }
    temporary(new, "copy");
    stored(content, inode, "");
    stored(lost, inode, ".lost");
    copy(from, new, content, lost);
    close(from);
    ((int (*)(const char *, const char *))real("rename"))(new, content);
    publish(content, name);
}

/* A sync failed: what differs from what is durable is lost, a mark for each block. */
static void failed_file(int fd, ino_t inode) {
    char path[PATH_MAX], now[BLOCK], then[BLOCK], mark = 1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int from = open(path, O_RDONLY | O_CLOEXEC);
    stored(path, inode, "");
    int was = open(path, O_RDONLY | O_CLOEXEC);
    stored(path, inode, ".lost");
    int gone = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ssize_t (*put)(int, const void *, size_t, off_t) = real("pwrite");
    ssize_t n;
    for (off_t at = 0; from >= 0 && gone >= 0 && (n = pread(from, now, BLOCK, at)) > 0; at += BLOCK) {
        if (was < 0 || pread(was, then, BLOCK, at) != n || memcmp(now, then, n)) {
            put(gone, &mark, 1, at / BLOCK);
        }
    }
    if (from >= 0) close(from);
    if (was >= 0) close(was);
    if (gone >= 0) close(gone);
}

/* Blocks that are written anew are not lost any more. */
static void written(ino_t inode, off_t at, size_t count) {
    char path[PATH_MAX], mark = 0;
    stored(path, inode, ".lost");
    int gone = open(path, O_RDWR | O_CLOEXEC);
    ssize_t (*put)(int, const void *, size_t, off_t) = real("pwrite");
    for (off_t n = at / BLOCK; gone >= 0 && n <= (at + (off_t)count - 1) / BLOCK; n++) {
        put(gone, &mark, 1, n);
    }
    if (gone >= 0) close(gone);
}

/* live/ takes the names as they are in this folder now, each with what was synced of its file. */
static void synced_folder(const char *name) {
    char here[PATH_MAX * 2], there[PATH_MAX * 2], path[PATH_MAX * 4], inner[PATH_MAX * 2], content[PATH_MAX];
    const char *slash = *name ? "/" : "";
    snprintf(here, sizeof here, "%s%s%s", folder, slash, name);
    snprintf(there, sizeof there, "%s/live%s%s", base, slash, name);
    struct dirent *entry;
    struct stat stat_of;
    DIR *now = opendir(here);
    while (now && (entry = readdir(now))) {
        snprintf(path, sizeof path, "%s/%s", here, entry->d_name);
        if (ends(entry->d_name, "-shm") || lstat(path, &stat_of) || !S_ISREG(stat_of.st_mode)) {
            continue;
        }
        stored(content, stat_of.st_ino, "");
        if (access(content, F_OK)) {
            int empty = open(content, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
            if (empty >= 0) close(empty);
        }
        snprintf(inner, sizeof inner, "%s%s%s", name, slash, entry->d_name);
        publish(content, inner);
    }
    if (now) closedir(now);
    DIR *then = opendir(there);
    while (then && (entry = readdir(then))) {
        snprintf(path, sizeof path, "%s/%s", here, entry->d_name);
        if (entry->d_name[0] == '.' && (!entry->d_name[1] || !strcmp(entry->d_name, ".."))) {
            continue;
        }
        if (lstat(path, &stat_of) && errno == ENOENT) {
            snprintf(path, sizeof path, "%s/%s", there, entry->d_name);
            ((int (*)(const char *))real("unlink"))(path);
        }
    }
    if (then) closedir(then);
}

/* The last name of a file goes: its inode may name another file soon. */
static void forget(int at, const char *path, int flags) {
    struct stat stat_of;
    if (!control || !said(&control->shadow) || fstatat(at, path, &stat_of, flags) || !S_ISREG(stat_of.st_mode) ||
        stat_of.st_nlink != 1 || stat_of.st_dev != device) {
        return;
    }
    char content[PATH_MAX];
    stored(content, stat_of.st_ino, "");
    ((int (*)(const char *))real("unlink"))(content);
    stored(content, stat_of.st_ino, ".lost");
    ((int (*)(const char *))real("unlink"))(content);
}

/* ---- the calls ---- */

static int sync_with(int fd, const char *call) {
    char buffer[PATH_MAX];
    const char *name = ours(fd, buffer);
    int (*next)(int) = real(call);
    if (!name) {
        return next(fd);
    }
    struct stat stat_of;
    fstat(fd, &stat_of);
    stalled(name, 1);
    if (said(&control->slow_ms)) {
        wait_ms(said(&control->slow_ms));
    }
    uint32_t once = 1;
    int fails = meant(name) && (said(&control->failsync) == 2 ||
                                __atomic_compare_exchange_n(&control->failsync, &once, 0, 0, __ATOMIC_SEQ_CST,
                                                            __ATOMIC_SEQ_CST));
    if (fails) {
        if (said(&control->shadow) && S_ISREG(stat_of.st_mode)) {
            failed_file(fd, stat_of.st_ino);
        }
        add(&control->failed, 1);
        errno = EIO;
        return -1;
    }
    int done = next(fd);
    if (!done) {
        if (said(&control->shadow)) {
            int kept = errno;
            if (S_ISDIR(stat_of.st_mode)) {
                synced_folder(name);
            } else {
                synced_file(fd, name, stat_of.st_ino);
            }
            errno = kept;
        }
        add(&control->syncs, 1);
    }
    return done;
}

int fsync(int fd) { return sync_with(fd, "fsync"); }
int fdatasync(int fd) { return sync_with(fd, "fdatasync"); }

/* Whether a write at `at` (-1: where the file's position is) finds no room; waits in a stall. */
static int refused(int fd, size_t count, off_t at) {
    if (!control || (!said(&control->full) && !said(&control->stall) && !said(&control->failed))) {
        return 0;
    }
    char buffer[PATH_MAX];
    const char *name = ours(fd, buffer);
    struct stat stat_of;
    if (!name || fstat(fd, &stat_of)) {
        return 0;
    }
    stalled(name, 2);
    if (at < 0) {
        at = fcntl(fd, F_GETFL) & O_APPEND ? stat_of.st_size : lseek(fd, 0, SEEK_CUR);
    }
    uint32_t full = said(&control->full);
    if (full == 1 || (full == 2 && at + (off_t)count > stat_of.st_size)) {
        add(&control->refused, 1);
        errno = ENOSPC;
        return 1;
    }
    if (count && said(&control->failed) && said(&control->shadow)) {
        written(stat_of.st_ino, at, count);
    }
    return 0;
}

ssize_t write(int fd, const void *from, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = real("write");
    return refused(fd, count, -1) ? -1 : next(fd, from, count);
}

static size_t total(const struct iovec *parts, int count) {
    size_t sum = 0;
    for (int i = 0; i < count; i++) sum += parts[i].iov_len;
    return sum;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    static ssize_t (*next)(int, const struct iovec *, int);
    if (!next) next = real("writev");
    return refused(fd, total(parts, count), -1) ? -1 : next(fd, parts, count);
}

#define PWRITE(name, kind)                                                        \
    ssize_t name(int fd, const void *from, size_t count, kind at) {               \
        static ssize_t (*next)(int, const void *, size_t, kind);                  \
        if (!next) next = real(#name);                                            \
        return refused(fd, count, at) ? -1 : next(fd, from, count, at);           \
    }
#define PWRITEV(name, kind)                                                       \
    ssize_t name(int fd, const struct iovec *parts, int count, kind at) {         \
        static ssize_t (*next)(int, const struct iovec *, int, kind);             \
        if (!next) next = real(#name);                                            \
        return refused(fd, total(parts, count), at) ? -1 : next(fd, parts, count, at); \
    }
#define TRUNCATE(name, kind)                                                      \
    int name(int fd, kind size) {                                                 \
        static int (*next)(int, kind);                                            \
        if (!next) next = real(#name);                                            \
        struct stat stat_of;                                                      \
        int grows = control && said(&control->full) && !fstat(fd, &stat_of) && size > stat_of.st_size; \
        return grows && refused(fd, size, 0) ? -1 : next(fd, size);               \
    }
#define ALLOCATE(name, kind)                                                      \
    int name(int fd, kind at, kind size) {                                        \
        static int (*next)(int, kind, kind);                                      \
        if (!next) next = real(#name);                                            \
        return refused(fd, size, at) ? ENOSPC : next(fd, at, size);               \
    }
#define FALLOCATE(name, kind)                                                     \
    int name(int fd, int mode, kind at, kind size) {                              \
        static int (*next)(int, int, kind, kind);                                 \
        if (!next) next = real(#name);                                            \
        return refused(fd, size, at) ? -1 : next(fd, mode, at, size);             \
    }

PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)
ALLOCATE(posix_fallocate, off_t)
ALLOCATE(posix_fallocate64, off64_t)
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

int unlink(const char *path) {
    forget(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
    return ((int (*)(const char *))real("unlink"))(path);
}

int unlinkat(int at, const char *path, int flags) {
    if (!(flags & AT_REMOVEDIR)) {
        forget(at, path, AT_SYMLINK_NOFOLLOW);
    }
    return ((int (*)(int, const char *, int))real("unlinkat"))(at, path, flags);
}

int rename(const char *from, const char *to) {
    forget(AT_FDCWD, to, AT_SYMLINK_NOFOLLOW);
    return ((int (*)(const char *, const char *))real("rename"))(from, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    forget(to_at, to, AT_SYMLINK_NOFOLLOW);
    return ((int (*)(int, const char *, int, const char *))real("renameat"))(from_at, from, to_at, to);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    if (!flags) {
        forget(to_at, to, AT_SYMLINK_NOFOLLOW);
    }
    return ((int (*)(int, const char *, int, const char *, unsigned))real("renameat2"))(from_at, from, to_at, to, flags);
}
