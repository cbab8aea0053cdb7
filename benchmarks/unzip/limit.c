// The least that unpacking can cost: read, inflate (libdeflate, one call a member), create, write.
//
//   limit PROCESSES DEST ARCHIVE...
//
// The same creates and writes as any unpacker, by PROCESSES processes that take contiguous ranges
// of members from a counter. It checks nothing: no CRC, no names, no headers, no limits, and files
// appear in DEST one by one. For the benchmark's own archives only.
//
// libdeflate's prototypes are declared here so that its header need not be installed. Compiled
// with -DZLIB it inflates by zlib: the least that anything can cost on a host without libdeflate.
// With -DCRC besides it checks each CRC by zlib: the least of what checks as all unpackers do.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef ZLIB
#include <zlib.h>
#else
void *libdeflate_alloc_decompressor(void);
int libdeflate_deflate_decompress(void *, const void *, size_t, void *, size_t, size_t *);
#endif

enum { RANGE_BYTES = 1 << 20, RANGE_MEMBERS = 200, LARGE = 16 << 20, LOCAL = 30, CENTRAL = 46, END = 22 };

typedef struct {
  uint64_t offset, end, packed, size;  // end: where the next member, or the directory, begins
  const char *leaf;
  int folder;  // its descriptor
  int archive;
  int method;
  uint32_t crc;
} Member;

typedef struct { size_t first, past; } Range;

static Member *members;
static Range *ranges;
static size_t member_count, range_count;
static int *archives;

static void die(const char *what) { perror(what); _exit(1); }

static void *need(void *memory) { if (!memory) die("memory"); return memory; }

static uint16_t u16(const uint8_t *p) { uint16_t v; memcpy(&v, p, 2); return v; }
static uint32_t u32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return v; }
static uint64_t u64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return v; }

static void read_at(int fd, void *to, size_t length, uint64_t offset) {
  uint8_t *at = to;
  while (length) {
    ssize_t got = pread(fd, at, length, offset);
    if (got <= 0) die("read");
    at += got, offset += got, length -= got;
  }
}

// ---- folders: each is made and opened once; found again by its path

typedef struct { char *path; int fd; } Folder;
static Folder *folders;
static size_t folder_room = 1024, folder_count;

static Folder *folder_slot(const char *path, size_t length) {
  uint64_t hash = 1469598103934665603u;
  for (size_t i = 0; i < length; i++) hash = (hash ^ (uint8_t)path[i]) * 1099511628211u;
  size_t at = hash & (folder_room - 1);
  while (folders[at].path &&
         (strlen(folders[at].path) != length || memcmp(folders[at].path, path, length)))
    at = (at + 1) & (folder_room - 1);
  return &folders[at];
}

static void grow_folders(void) {
  Folder *old = folders;
  size_t room = folder_room;
  folder_room *= 2;
  folders = need(calloc(folder_room, sizeof *folders));
  for (size_t i = 0; i < room; i++)
    if (old[i].path) *folder_slot(old[i].path, strlen(old[i].path)) = old[i];
  free(old);
}

static int folder_of(const char *path, size_t length) {
  if (!length) return AT_FDCWD;
  Folder *slot = folder_slot(path, length);
  if (slot->path) return slot->fd;
  const char *slash = memrchr(path, '/', length);
  int above = slash ? folder_of(path, slash - path) : AT_FDCWD;
  char *name = need(strndup(slash ? slash + 1 : path, length - (slash ? slash + 1 - path : 0)));
  mkdirat(above, name, 0777);
  int fd = openat(above, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) die(name);
  free(name);
  if (++folder_count * 2 > folder_room) grow_folders();
  *folder_slot(path, length) = (Folder){need(strndup(path, length)), fd};
  return fd;
}

// ---- the central directory

static void find_directory(int fd, uint64_t *count, uint64_t *start, uint64_t *length) {
  off_t size = lseek(fd, 0, SEEK_END);
  uint8_t end[END], locator[20], end64[56];
  read_at(fd, end, END, size - END);  // the benchmark's zips have no comment
  *count = u16(end + 10), *length = u32(end + 12), *start = u32(end + 16);
  if (*count != 0xffff) return;
  read_at(fd, locator, sizeof locator, size - END - sizeof locator);
  read_at(fd, end64, sizeof end64, u64(locator + 8));
  *count = u64(end64 + 32), *length = u64(end64 + 40), *start = u64(end64 + 48);
}

static void read_zip64(Member *member, const uint8_t *extra, const uint8_t *past) {
  for (; extra + 4 <= past; extra += 4 + u16(extra + 2)) {
    if (u16(extra) != 1) continue;
    const uint8_t *field = extra + 4;
    if (member->size == UINT32_MAX) member->size = u64(field), field += 8;
    if (member->packed == UINT32_MAX) member->packed = u64(field), field += 8;
    if (member->offset == UINT32_MAX) member->offset = u64(field);
  }
}

static void plan_archive(int archive) {
  uint64_t count, start, length;
  find_directory(archives[archive], &count, &start, &length);
  uint8_t *p = need(malloc(length + 1));
  read_at(archives[archive], p, length, start);
  members = need(realloc(members, (member_count + count) * sizeof *members));
  Member *before = NULL;
  for (uint64_t i = 0; i < count; i++) {
    char *name = (char *)p + CENTRAL;
    size_t name_length = u16(p + 28), extra_length = u16(p + 30);
    uint8_t *next = p + CENTRAL + name_length + extra_length + u16(p + 32);
    Member *member = &members[member_count];
    *member = (Member){.offset = u32(p + 42), .packed = u32(p + 20), .size = u32(p + 24),
                       .archive = archive, .method = u16(p + 10), .crc = u32(p + 16)};
    read_zip64(member, p + CENTRAL + name_length, p + CENTRAL + name_length + extra_length);
    if (before) before->end = member->offset;
    const char *slash = memrchr(name, '/', name_length);
    member->folder = folder_of(name, slash ? slash - name : 0);
    size_t leaf = slash ? slash + 1 - name : 0;
    before = NULL;
    if (leaf < name_length) {
      member->leaf = need(strndup(name + leaf, name_length - leaf));
      before = member;
      member_count++;
    }
    p = next;
  }
  if (before) before->end = start;
}

static void cut_ranges(void) {
  ranges = need(malloc((member_count + 1) * sizeof *ranges));
  for (size_t first = 0, at = 1; at <= member_count; at++) {
    if (at < member_count && at - first < RANGE_MEMBERS &&
        members[at].archive == members[first].archive &&
        members[at].offset - members[first].offset < RANGE_BYTES)
      continue;
    ranges[range_count++] = (Range){first, at};
    first = at;
  }
}

// ---- the work

static uint8_t *room_for(uint8_t *buffer, size_t *room, size_t wanted) {
  if (wanted <= *room) return buffer;
  free(buffer);
  return need(malloc(*room = wanted));
}

static int create(const Member *member, int how) {
  int fd = openat(member->folder, member->leaf, how | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) die(member->leaf);
  return fd;
}

static void write_file(const Member *member, const uint8_t *data) {
  int fd = create(member, O_WRONLY);
  for (uint64_t done = 0; done < member->size;) {
    ssize_t wrote = write(fd, data + done, member->size - done);
    if (wrote < 0) die("write");
    done += wrote;
  }
  close(fd);
}

// Inflate all of a member in one call; 0 if that went well.
#ifdef ZLIB
static int unpack(const uint8_t *data, const Member *member, uint8_t *out) {
  static z_stream stream;
  if (!stream.state ? inflateInit2(&stream, -MAX_WBITS) : inflateReset(&stream)) return 1;
  stream.next_in = (uint8_t *)data, stream.avail_in = member->packed;
  stream.next_out = out, stream.avail_out = member->size;
  return inflate(&stream, Z_FINISH) != Z_STREAM_END;
}
#else
static int unpack(const uint8_t *data, const Member *member, uint8_t *out) {
  static void *inflater;
  if (!inflater) inflater = need(libdeflate_alloc_decompressor());
  return libdeflate_deflate_decompress(inflater, data, member->packed, out, member->size, NULL);
}
#endif

// Inflate a large member into the pages of its file: no copy, no buffer of its size.
static void map_file(const Member *member, const uint8_t *data) {
  int fd = create(member, O_RDWR);
  if (posix_fallocate(fd, 0, member->size)) die("fallocate");
  uint8_t *pages = mmap(NULL, member->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (pages == MAP_FAILED) die("mmap");
  if (unpack(data, member, pages)) die("inflate");
#ifdef CRC
  if (crc32(0, pages, member->size) != member->crc) die("CRC");
#endif
  munmap(pages, member->size);
  close(fd);
}

static void work(size_t *counter) {
  uint8_t *in = NULL, *out = NULL;
  size_t in_room = 0, out_room = 0, at;
  while ((at = __sync_fetch_and_add(counter, 1)) < range_count) {
    const Member *first = &members[ranges[at].first], *past = &members[ranges[at].past];
    size_t length = past[-1].end - first->offset;
    in = room_for(in, &in_room, length);
    read_at(archives[first->archive], in, length, first->offset);
    for (const Member *member = first; member < past; member++) {
      const uint8_t *data = in + (member->offset - first->offset);
      data += LOCAL + u16(data + 26) + u16(data + 28);
      if (member->method && member->size >= LARGE) {
        map_file(member, data);
        continue;
      }
      if (member->method) {
        out = room_for(out, &out_room, member->size);
        if (unpack(data, member, out)) die("inflate");
        data = out;
      }
#ifdef CRC
      if (crc32(0, data, member->size) != member->crc) die("CRC");
#endif
      write_file(member, data);
    }
  }
}

int main(int count, char **words) {
  if (count < 4) return fputs("usage: limit PROCESSES DEST ARCHIVE...\n", stderr), 2;
  struct rlimit files;
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  archives = need(malloc(count * sizeof *archives));
  folders = need(calloc(folder_room, sizeof *folders));
  for (int i = 3; i < count; i++)
    if ((archives[i - 3] = open(words[i], O_RDONLY | O_CLOEXEC)) < 0) die(words[i]);
  if (chdir(words[2])) die(words[2]);
  for (int i = 3; i < count; i++) plan_archive(i - 3);
  cut_ranges();
  size_t *counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (counter == MAP_FAILED) die("memory");
  for (int i = atoi(words[1]); i > 0; i--) {
    pid_t child = fork();
    if (child < 0) die("fork");
    if (!child) work(counter), _exit(0);
  }
  int status, failed = 0;
  while (wait(&status) > 0) failed |= status;
  return failed != 0;
}
