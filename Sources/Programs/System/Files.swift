import CSystem
import KnockBase

/// Files and directories. Each call may throw the system's error.
extension Descriptor {
  /// Opens a file to read. It never waits for the other end of a pipe.
  init(reading path: Argument) throws(SystemError) {
    self.init(owning: try SystemError.check(unsafe csys_open_to_read(path.pointer)))
  }

  /// Opens a regular file to read. Throws `accessDenied` if others than us and root can write to it.
  init(readingPrivate path: Argument) throws(SystemError) {
    self.init(owning: try SystemError.check(unsafe csys_open_configuration(path.pointer)))
  }

  /// Makes a file that only its owner may use, and opens it to write. Throws `exists` if there is one.
  init(making path: Argument) throws(SystemError) {
    self.init(owning: try SystemError.check(unsafe csys_create(path.pointer, 0o600)))
  }

  /// Opens and locks a directory. Makes a file in it for the owner and the group of the directory, and opens that to
  /// write. It replaces an older one. Throws `wouldBlock` if another process has the lock.
  init(
    making name: Literal, in path: Argument, _ directory: inout Descriptor
  ) throws(SystemError) {
    var number: Int32 = -1
    self.init(
      owning: try SystemError.check(
        unsafe csys_create_for_owner(path.pointer, name.cString, &number)))
    directory = Descriptor(owning: number)
  }

  /// Opens the directory that a path is in.
  init(parentOf path: Argument) throws(SystemError) {
    self.init(owning: try SystemError.check(unsafe csys_open_parent(path.pointer)))
  }

  /// Opens a directory. Throws `accessDenied` if others than us, root and `user` can write to it.
  ///
  /// - Parameter making: whether to make it if there is none.
  init(privateDirectory path: Argument, of user: UInt32, making: Bool) throws(SystemError) {
    self.init(
      owning: try SystemError.check(
        unsafe csys_open_state_directory(path.pointer, making ? 1 : 0, user)))
  }

  /// Opens a folder of the user's settings, and makes it and the one around it if they are missing. Throws
  /// `accessDenied` if others can write to it.
  init(ownFolder path: Argument) throws(SystemError) {
    self.init(owning: try SystemError.check(unsafe csys_open_own_folder(path.pointer)))
  }

  /// Opens a directory to look into the state of any user. Throws `accessDenied` if others can write to it.
  init(readingState path: Argument) throws(SystemError) {
    self.init(owning: try SystemError.check(unsafe csys_open_state_to_read(path.pointer)))
  }

  /// Opens a file in this directory to read. Throws `accessDenied` if others than us, root and the owner of the
  /// directory can write to it, and never follows a link.
  ///
  /// - Parameter making: whether to write to it too, and to make it for the owner of the directory if there is none.
  func open(_ name: Literal, making: Bool) throws(SystemError) -> Descriptor {
    Descriptor(
      owning: try SystemError.check(
        unsafe csys_open_state_file(number, name.cString, making ? 1 : 0)))
  }

  /// Makes a new file in this directory, and opens it to write. It replaces an older one.
  func makeFile(
    _ name: UnsafePointer<CChar>, mode: UInt32
  ) throws(SystemError) -> Descriptor {
    Descriptor(owning: try SystemError.check(unsafe csys_replace(number, name, mode)))
  }

  /// Gives a file in this directory a second name, and waits until that is on the disk. Throws `exists` if the name is
  /// taken. After an error, the file does not have it.
  func link(_ old: Literal, as new: Argument) throws(SystemError) {
    try SystemError.check(unsafe csys_link(number, old.cString, new.pointer))
  }

  /// Removes a name from this directory.
  func remove(_ name: Literal) { unsafe csys_remove_in(number, name.cString) }

  /// Renames a file in this directory.
  func rename(
    _ old: UnsafePointer<CChar>, to new: UnsafePointer<CChar>
  ) throws(SystemError) {
    try SystemError.check(unsafe csys_rename(number, old, new))
  }

  /// Opens the directory of the users. Throws `notPermitted` if others than we, root and `user` could change it.
  init(users path: Argument, of user: UInt32) throws(SystemError) {
    self.init(owning: try SystemError.check(unsafe csys_open_users(path.pointer, user)))
  }

  /// Opens the file of a user in this directory to read. Throws `notPermitted` as above, `invalid` if it is no regular
  /// file, and `otherDevice` if it is a link that leads out of the directory.
  func openUser(_ name: Argument, of user: UInt32) throws(SystemError) -> Descriptor {
    Descriptor(owning: try SystemError.check(unsafe csys_open_user(number, name.pointer, user)))
  }

  /// The user that it belongs to; root if that cannot be found.
  var owner: UInt32 { csys_owner(number) }

  /// Takes the lock of this directory until the process ends. Throws `wouldBlock` if another process has it.
  func lock() throws(SystemError) { try SystemError.check(csys_lock(number)) }

  /// The process that has the lock of a directory.
  enum Holder {
    case nobody
    /// The number is 0 for a process that is not in our PID namespace.
    case process(Int32)
  }

  var lockHolder: Holder {
    get throws(SystemError) {
      let process = try SystemError.check(csys_lock_holder(number))
      return process == CSYS_UNLOCKED ? .nobody : .process(process)
    }
  }

  /// Reads from an offset on. Returns how many elements of the storage are whole.
  func read<Element>(
    into elements: borrowing Storage<Element>, at offset: Int
  ) throws(SystemError) -> Int {
    let start = unsafe elements.baseAddress
    let count = try SystemError.check(
      unsafe csys_read_at(number, start, elements.size, Int64(offset)))
    return Int(count) / MemoryLayout<Element>.stride
  }

  /// Writes all bytes from an offset on.
  func write(_ bytes: RawSpan, at offset: Int) throws(SystemError) {
    let result = unsafe bytes.withUnsafeBytes {
      unsafe csys_write_at(number, $0.baseAddress, $0.count, Int64(offset))
    }
    try SystemError.check(result)
  }

  /// Makes a file so many bytes long, which takes no room on the disk.
  func resize(to size: Int) throws(SystemError) {
    try SystemError.check(csys_resize(number, Int64(size)))
  }

  /// Makes a file at least so many bytes long, and takes the room on the disk if the file system can do that.
  func reserve(_ size: Int) throws(SystemError) {
    try SystemError.check(csys_reserve(number, Int64(size)))
  }

  /// Waits until what was written is on the disk.
  func sync() throws(SystemError) { try SystemError.check(csys_sync(number)) }

  /// The size of a file in bytes. Throws `notFound` if it has been deleted.
  var size: Int {
    get throws(SystemError) {
      let size = csys_size(number)
      guard size >= 0 else { throw SystemError(number: Int32(clamping: -size)) }
      return Int(clamping: size)
    }
  }
}

/// The names in a directory. readdir(3) would need the heap.
struct FileNames: ~Copyable {
  /// In bytes. The longest entry has 280.
  private static let bufferSize = 4096
  // The layout of struct linux_dirent64. Source: getdents64(2).
  private static let sizeOffset = 16
  private static let nameOffset = 19

  private let entries: Storage<UInt8>
  private var unread = 0..<0

  /// Nil if out of memory.
  init?() {
    guard let entries = Storage<UInt8>.mapped(Self.bufferSize) else { return nil }
    self.entries = entries
  }

  /// Forgets what was read of a directory, and gives the memory back.
  mutating func removeAll() {
    unread = 0..<0
    entries.releasePages()
  }

  /// The next name, which is valid until the next call; nil after the last.
  mutating func next(in directory: borrowing Descriptor) throws(SystemError) -> Argument? {
    if unread.isEmpty {
      let size = unsafe csys_list(directory.number, entries.baseAddress, entries.count)
      unread = 0..<Int(try SystemError.check(size))
    }
    guard !unread.isEmpty, let start = unsafe entries.baseAddress else { return nil }
    let entry = unread.lowerBound
    let size = entries.withElements(unread) { $0.native(at: Self.sizeOffset, count: 2) }
    unread = entry + Int(size)..<unread.upperBound
    return unsafe Argument(
      UnsafeMutableRawPointer(start + entry + Self.nameOffset).assumingMemoryBound(to: CChar.self))
  }
}

extension SystemError {
  /// Whether the disk is full, read-only or broken. Otherwise the path is wrong. For errors of calls for a path.
  var isOfDisk: Bool { csys_is_disk_error(number) != 0 }
}

/// The kind of an open file, and its permissions.
struct FileMode {
  private let bits: Int32

  init(of descriptor: Int32) throws(SystemError) {
    bits = try SystemError.check(csys_mode(descriptor))
  }

  var isRegularFile: Bool { bits & CSYS_REGULAR_FILE != 0 }
  var isTerminal: Bool { bits & CSYS_TERMINAL != 0 }
  /// The bits of chmod(2).
  var permissions: Int32 { bits & 0o777 }
}

extension Argument {
  /// Whether it has a slash in it.
  var isPath: Bool { withBytes { $0.firstIndex(of: UInt8(ascii: "/")) != nil } }

  /// Whether there is a file with this name.
  var isFile: Bool { unsafe csys_exists(pointer) != 0 }

  /// Whether both are the same file, perhaps by a link.
  func isSameFile(as other: Argument) -> Bool {
    unsafe csys_is_same_file(pointer, other.pointer) != 0
  }

  /// Whether only its owner may use the file at this path, or at the end of a link.
  var isForOwnerOnly: Bool { unsafe csys_is_private(pointer) != 0 }

  /// Removes the file at this path, if there is one.
  func removeFile() { unsafe csys_remove(pointer) }

  /// Whether there is a device, a pipe or a socket at this path, or at the end of a link.
  var isSpecialFile: Bool { unsafe csys_is_special(pointer) != 0 }

  /// Checks that something could be made at this path: its directory exists, and we can write to it.
  func checkPlace() throws(SystemError) {
    try SystemError.check(unsafe csys_check_place(pointer))
  }

  /// Checks that a program of this name or path can be run.
  func checkProgram() throws(SystemError) {
    try SystemError.check(unsafe csys_check_program(pointer))
  }
}
