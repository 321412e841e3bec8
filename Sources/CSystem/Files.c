#define _GNU_SOURCE  // O_PATH
#include "Files.h"

#include "Calls.h"
#include "Result.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

int csys_open_to_read(const char *path) {
  return csys_result(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
}

int csys_create(const char *path, uint32_t mode) {
  int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, mode);
  if (fd < 0) return -errno;
  if (fchmod(fd, mode) == 0) return fd;
  int error = errno;
  unlink(path);
  close(fd);
  return -error;
}

/// Makes a file in a directory, and opens it to write. It replaces an older one.
static int replace_file(int directory, const char *name, mode_t mode) {
  if (unlinkat(directory, name, 0) < 0 && errno != ENOENT) return -errno;
  return csys_result(openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode));
}

int csys_replace(int directory, const char *name, uint32_t mode) {
  int fd = replace_file(directory, name, mode);
  if (fd >= 0) fchmod(fd, mode);
  return fd;
}

static int create_for_owner(int directory, const char *name) {
  struct stat status;
  if (flock(directory, LOCK_EX | LOCK_NB) < 0 || fstat(directory, &status) < 0) return -errno;
  int fd = replace_file(directory, name, 0600);
  if (fd < 0) return fd;
  mode_t mode = status.st_mode & S_IRWXG ? 0640 : 0600;
  if (fchown(fd, status.st_uid, status.st_gid) == 0 && fchmod(fd, mode) == 0) return fd;
  int error = errno;
  unlinkat(directory, name, 0);
  close(fd);
  return -error;
}

int csys_create_for_owner(const char *path, const char *name, int *directory) {
  *directory = csys_open_to_read(path);
  if (*directory < 0) return *directory;
  int fd = create_for_owner(*directory, name);
  if (fd < 0) close(*directory);
  return fd;
}

int csys_link(int directory, const char *old_name, const char *new_name) {
  if (linkat(directory, old_name, directory, new_name, 0) < 0) return -errno;
  int result = csys_sync(directory);
  if (result < 0) unlinkat(directory, new_name, 0);
  return result;
}

void csys_remove_in(int directory, const char *name) { unlinkat(directory, name, 0); }

void csys_remove(const char *path) { unlink(path); }

// Called in hundreds of places.
__attribute__((noinline)) void csys_close(int fd) {
  if (fd >= 0) close(fd);
}

int csys_read(int fd, void *buffer, size_t size) {
  ssize_t count;
  do count = read(fd, buffer, size);
  while (count < 0 && errno == EINTR);
  return csys_result(count);
}

int csys_write(int fd, const void *bytes, size_t size) {
  ssize_t count;
  do count = write(fd, bytes, size);
  while (count < 0 && errno == EINTR);
  return csys_result(count);
}

int csys_write_all(int fd, const void *bytes, size_t size) {
  for (size_t done = 0; done < size;) {
    int count = csys_write(fd, (const char *)bytes + done, size - done);
    if (count <= 0) return count == 0 ? -EIO : count;
    done += (size_t)count;
  }
  return 0;
}

int csys_sync(int fd) { return csys_result(fsync(fd)); }

int csys_mode(int fd) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  return (int)(status.st_mode & 07777) | (S_ISREG(status.st_mode) ? CSYS_REGULAR_FILE : 0) |
         (isatty(fd) ? CSYS_TERMINAL : 0);
}

uint32_t csys_owner(int fd) {
  struct stat status;
  return fstat(fd, &status) < 0 ? 0 : status.st_uid;
}

int csys_identity(int fd, uint64_t *device, uint64_t *inode) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  *device = status.st_dev;
  *inode = status.st_ino;
  return 0;
}

int64_t csys_size(int fd) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  return status.st_nlink > 0 ? (int64_t)status.st_size : -ENOENT;
}

int csys_read_at(int fd, void *buffer, size_t size, int64_t offset) {
  size_t done = 0;
  while (done < size) {
    ssize_t count = pread(fd, (char *)buffer + done, size - done, (off_t)(offset + (int64_t)done));
    if (count == 0) break;
    if (count > 0) done += (size_t)count;
    else if (errno != EINTR) return -errno;
  }
  return (int)done;
}

int csys_write_at(int fd, const void *bytes, size_t size, int64_t offset) {
  size_t done = 0;
  while (done < size) {
    ssize_t count = pwrite(fd, (const char *)bytes + done, size - done, (off_t)(offset + (int64_t)done));
    if (count > 0) done += (size_t)count;
    else if (count == 0 || errno != EINTR) return count == 0 ? -EIO : -errno;
  }
  return 0;
}

int csys_resize(int fd, int64_t size) { return csys_result(ftruncate(fd, (off_t)size)); }

int csys_reserve(int fd, int64_t size) {
  int error = posix_fallocate(fd, 0, (off_t)size);
  if (error != EOPNOTSUPP && error != ENOSYS) return -error;
  int64_t present = csys_size(fd);
  return present < 0 ? (int)present : present < size ? csys_resize(fd, size) : 0;
}

int csys_is_disk_error(int number) {
  switch (number) {
    // The path is not what it must be, or another server has it.
    case EACCES:
    case EAGAIN:
    case EINVAL:
    case EISDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case ENOENT:
    case ENOMEM:
    case ENOTDIR:
    case ENXIO:
      return 0;
    default:
      return 1;
  }
}

int csys_rename(int directory, const char *old_name, const char *new_name) {
  return csys_result(renameat(directory, old_name, directory, new_name));
}

int csys_exists(const char *path) { return access(path, F_OK) == 0; }

int csys_is_special(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

int csys_is_same_file(const char *path, const char *other) {
  struct stat one, two;
  return stat(path, &one) == 0 && stat(other, &two) == 0 && one.st_dev == two.st_dev &&
         one.st_ino == two.st_ino;
}

int csys_is_private(const char *path) {
  struct stat status;
  return stat(path, &status) == 0 && !(status.st_mode & (S_IRWXG | S_IRWXO));
}

/// Writes the directory that a path is in into `parent` (PATH_MAX bytes).
static int find_parent(const char *path, char *parent) {
  size_t length = strlen(path);
  while (length > 1 && path[length - 1] == '/') length--;
  while (length > 0 && path[length - 1] != '/') length--;
  if (length + 1 >= PATH_MAX) return -ENAMETOOLONG;
  memcpy(parent, path, length);
  strcpy(parent + length, ".");
  return 0;
}

int csys_check_place(const char *path) {
  char parent[PATH_MAX];
  int result = find_parent(path, parent);
  return result < 0 ? result : csys_result(access(parent, W_OK | X_OK));
}

int csys_open_parent(const char *path) {
  char parent[PATH_MAX];
  int result = find_parent(path, parent);
  return result < 0 ? result : csys_result(open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/// 0 if only we, root or another user can have written to an open file.
static int check_owner(int fd, mode_t type, uid_t user) {
  struct stat status;
  if (fstat(fd, &status) < 0) return -errno;
  if ((status.st_mode & S_IFMT) != type) return type == S_IFDIR ? -ENOTDIR : -EINVAL;
  if (status.st_uid != 0 && status.st_uid != geteuid() && status.st_uid != user) return -EACCES;
  // The other user may have given a file of root, from elsewhere, a second name.
  if (type == S_IFREG && user != 0 && status.st_uid != user && status.st_nlink > 1) return -EACCES;
  return status.st_mode & (S_IWGRP | S_IWOTH) ? -EACCES : 0;
}

static int checked(int fd, mode_t type, uid_t user) {
  if (fd < 0) return -errno;
  int result = check_owner(fd, type, user);
  if (result == 0) return fd;
  close(fd);
  return result;
}

int csys_open_configuration(const char *path) { return checked(csys_open_to_read(path), S_IFREG, 0); }

int csys_open_state_directory(const char *path, int make, uint32_t user) {
  if (make && mkdirat(AT_FDCWD, path, 0700) < 0 && errno != EEXIST) return -errno;
  return checked(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), S_IFDIR, user);
}

int csys_open_own_folder(const char *path) {
  char parent[PATH_MAX];
  int result = find_parent(path, parent);
  if (result < 0) return result;
  // Without the dot, which would have to be there.
  parent[strlen(parent) - 1] = 0;
  mkdirat(AT_FDCWD, parent, 0700);
  return csys_open_state_directory(path, 1, 0);
}

int csys_open_state_to_read(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  return fd < 0 ? -errno : checked(fd, S_IFDIR, csys_owner(fd));
}

int csys_lock(int fd) {
  if (flock(fd, LOCK_EX | LOCK_NB) < 0) return -errno;
  // Locks of this other kind can be looked up. Nobody waits for it: it is shared.
  struct flock mark = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
  fcntl(fd, F_SETLK, &mark);
  return 0;
}

int csys_lock_holder(int fd) {
  struct flock found = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (fcntl(fd, F_GETLK, &found) < 0) return -errno;
  return found.l_type == F_UNLCK ? CSYS_UNLOCKED : found.l_pid > 0 ? found.l_pid : 0;
}

int csys_open_state_file(int directory, const char *name, int make) {
  int flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | (make ? O_RDWR : O_RDONLY);
  uid_t owner = csys_owner(directory);
  int fd;
  do {
    fd = openat(directory, name, flags);
    if (fd >= 0 || errno != ENOENT || !make) break;
    fd = openat(directory, name, flags | O_CREAT | O_EXCL, 0600);
    // If that is forbidden, it stays ours, and can be used while it is open.
    if (fd >= 0) (void)fchown(fd, owner, (gid_t)-1);
    // Somebody else has made it just now.
  } while (fd < 0 && errno == EEXIST);
  return checked(fd, S_IFREG, owner);
}

int csys_list(int directory, void *entries, size_t size) {
  return csys_result(syscall(SYS_getdents64, directory, entries, size));
}

/// 0 if only we, root or another user can have changed an open file.
static int check_user(int fd, mode_t type, uint32_t user) {
  struct stat status;
  struct statvfs system;
  if (fstat(fd, &status) < 0) return -errno;
  if ((status.st_mode & S_IFMT) != type) return type == S_IFDIR ? -ENOTDIR : -EINVAL;
  if (status.st_uid != 0 && status.st_uid != geteuid() && status.st_uid != user) return -EPERM;
  if (!(status.st_mode & (S_IWGRP | S_IWOTH))) return 0;
  // Others cannot replace a file of ours in a sticky directory.
  return type == S_IFDIR &&
                 (status.st_mode & S_ISVTX || (fstatvfs(fd, &system) == 0 && system.f_flag & ST_RDONLY))
             ? 0
             : -EPERM;
}

static int checked_for(uint32_t user, int fd, mode_t type) {
  if (fd < 0) return -errno;
  int result = check_user(fd, type, user);
  if (result == 0) return fd;
  close(fd);
  return result;
}

int csys_open_users(const char *path, uint32_t user) {
  return checked_for(user, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), S_IFDIR);
}

enum { PATH_ROOM = 1024 };

/// Replaces the first part of a path, a link in `place`, by what it says. `next` is behind that part, or NULL.
static int follow(int place, char *path, const char *next) {
  char target[PATH_ROOM];
  ssize_t length = readlinkat(place, path, target, PATH_ROOM);
  if (length < 0) return -errno;
  size_t left = next ? strlen(next) + 1 : 0;
  if ((size_t)length + left >= PATH_ROOM) return -ENAMETOOLONG;
  target[length] = 0;
  if (next) {
    target[length] = '/';
    strcpy(target + length + 1, next);
  }
  strcpy(path, target);
  return 0;
}

int csys_open_user(int directory, const char *name, uint32_t user) {
  // As many as the kernel follows. Source: path_resolution(7).
  enum { LINKS = 40 };
  char path[PATH_ROOM];
  if (strlen(name) >= PATH_ROOM) return -ENAMETOOLONG;
  strcpy(path, name);
  int place = directory, links = 0, result;
  while (1) {
    char *next = strchr(path, '/');
    if (next) {
      *next++ = 0;
      while (*next == '/') next++;
      if (!*next) next = NULL;
    }
    struct stat status;
    if (!*path || strcmp(path, "..") == 0) {
      result = -EXDEV;
    } else if (fstatat(place, path, &status, AT_SYMLINK_NOFOLLOW) < 0) {
      result = -errno;
    } else if (S_ISLNK(status.st_mode)) {
      result = ++links > LINKS ? -ELOOP : follow(place, path, next);
      if (result == 0) continue;
    } else if (!next && !S_ISREG(status.st_mode)) {
      result = -EINVAL;
    } else {
      int flags = next ? O_PATH | O_DIRECTORY : O_RDONLY | O_NONBLOCK | O_NOCTTY;
      int fd = openat(place, path, flags | O_NOFOLLOW | O_CLOEXEC);
      result = checked_for(user, fd, next ? S_IFDIR : S_IFREG);
    }
    if (place != directory) close(place);
    if (result < 0 || !next) return result;
    place = result;
    memmove(path, next, strlen(next) + 1);
  }
}
