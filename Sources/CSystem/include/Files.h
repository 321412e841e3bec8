// Files and descriptors.
#pragma once
#include <stddef.h>
#include <stdint.h>

int csys_open_to_read(const char *path);

/// Opens a regular file that only we or root can write to. If others can, it returns -EACCES.
int csys_open_configuration(const char *path);

/// Makes a file with these permissions, whatever the umask, and opens it to write. If the name is taken, it
/// returns -EEXIST.
int csys_create(const char *path, uint32_t mode);

/// Makes a file with these permissions in a directory, whatever the umask, and opens it to write. It replaces an older
/// one.
int csys_replace(int directory, const char *name, uint32_t mode);

/// Opens and locks a directory. Makes a file in it that belongs to the owner and the group of the directory, and opens
/// that to write. The owner may write it. The group may read it if the directory gives the group anything. It replaces
/// an older one. If another process has the lock, it returns -EAGAIN.
int csys_create_for_owner(const char *path, const char *name, int *directory);

/// Gives a file in a directory a second name, and waits until that is on the disk. If the name is taken, it returns
/// -EEXIST. After an error, the file does not have it.
int csys_link(int directory, const char *old_name, const char *new_name);

/// Removes a name from a directory.
void csys_remove_in(int directory, const char *name);

void csys_remove(const char *path);

void csys_close(int fd);

/// The number of bytes read, 0 at the end.
int csys_read(int fd, void *buffer, size_t size);

/// The number of bytes written.
int csys_write(int fd, const void *bytes, size_t size);

/// Writes all bytes, or fails.
int csys_write_all(int fd, const void *bytes, size_t size);

/// Waits until a file is on the disk.
int csys_sync(int fd);

#define CSYS_REGULAR_FILE 0x10000
#define CSYS_TERMINAL 0x20000

/// The permission bits, and one of the bits above if that is what it is.
int csys_mode(int fd);

/// The user that an open file belongs to.
uint32_t csys_owner(int fd);

/// The device and the inode number of an open file.
int csys_identity(int fd, uint64_t *device, uint64_t *inode);

/// The size of a file in bytes; -ENOENT if it has been deleted.
int64_t csys_size(int fd);

/// Reads bytes from an offset on. Returns how many there are, up to `size`.
int csys_read_at(int fd, void *buffer, size_t size, int64_t offset);

/// Writes all bytes from an offset on, or fails.
int csys_write_at(int fd, const void *bytes, size_t size, int64_t offset);

/// Makes a file `size` bytes long. It takes no room on the disk.
int csys_resize(int fd, int64_t size);

/// Makes a file at least `size` bytes long and takes the room on the disk, if the file system can do that.
int csys_reserve(int fd, int64_t size);

/// 0 if an error of a call for a path means that the path is wrong. Otherwise the disk is full, read-only or broken.
int csys_is_disk_error(int number);

/// Renames a file within a directory. `csys_sync` of the directory makes that last.
int csys_rename(int directory, const char *old_name, const char *new_name);

/// Whether there is something at a path.
int csys_exists(const char *path);

/// Whether there is something at a path that is neither a file nor a directory: a device, for example.
int csys_is_special(const char *path);

/// Whether two paths lead to the same file.
int csys_is_same_file(const char *path, const char *other);

/// Whether only its owner may use the file that a path leads to.
int csys_is_private(const char *path);

/// 0 if something can be made at a path: its directory exists, and we can write there.
int csys_check_place(const char *path);

/// Opens the directory that a path is in.
int csys_open_parent(const char *path);

// The state directory

/// Opens a directory that only we, root or `user` can write to. If others can, it returns -EACCES. If `make` is not
/// 0, a missing one is made.
int csys_open_state_directory(const char *path, int make, uint32_t user);

/// The same, and makes the directory that it is in, too.
int csys_open_own_folder(const char *path);

/// Opens a directory to look into the state of any user. If others can write to it, it returns -EACCES.
int csys_open_state_to_read(const char *path);

/// Locks a directory until the process ends. If another process has the lock, it returns -EAGAIN.
int csys_lock(int fd);

#define CSYS_UNLOCKED 0x7FFFFFFF
/// The process that has the lock of a directory: its number, 0 if it has none in our PID namespace, or CSYS_UNLOCKED.
/// It locks nothing.
int csys_lock_holder(int fd);

/// Opens a regular file in a directory to be read, and never follows a link. If others than we, root and the owner of
/// the directory can write to it, it returns -EACCES. If `make` is not 0, it can be written too, and a missing one is
/// made. It belongs to the owner of the directory.
int csys_open_state_file(int directory, const char *name, int make);

// The directory of the users

/// Opens a directory that belongs to us, root or `user`, and in which only its owner can replace files. Others could if
/// it is neither read-only nor sticky, and they may write to it. It then returns -EPERM.
int csys_open_users(const char *path, uint32_t user);

/// Stores entries of an open directory, each a `struct linux_dirent64`. Returns their size in bytes, 0 at the end.
/// Source: getdents64(2).
int csys_list(int directory, void *entries, size_t size);

/// Opens a regular file to read, without waiting. A link must lead to a file in `directory` or below it: otherwise it
/// returns -EXDEV. openat2(2) could do that since Linux 5.6. The file, and each directory below `directory` on the
/// way, must be as above, and only its owner may write to the file.
int csys_open_user(int directory, const char *name, uint32_t user);
