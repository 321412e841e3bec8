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

  /// Opens the directory that a path is in.
  init(parentOf path: Argument) throws(SystemError) {
    self.init(owning: try SystemError.check(unsafe csys_open_parent(path.pointer)))
  }

  /// Opens a directory. Throws `accessDenied` if others than us and root can write to it.
  ///
  /// - Parameter making: whether to make it if there is none.
  init(privateDirectory path: Argument, making: Bool) throws(SystemError) {
    self.init(
      owning: try SystemError.check(
        unsafe csys_open_state_directory(path.pointer, making ? 1 : 0)))
  }

  /// Opens a file in this directory to read and write. Throws `accessDenied` as above, and never follows a link.
  ///
  /// - Parameter making: whether to make it if there is none, and to empty it.
  func open(_ name: StaticString, making: Bool) throws(SystemError) -> Descriptor {
    Descriptor(
      owning: try SystemError.check(
        unsafe csys_open_state_file(number, name.cString, making ? 1 : 0)))
  }

  /// Makes a new file in this directory that everyone may read, and opens it to write.
  func makePublicFile(_ name: UnsafePointer<CChar>) throws(SystemError) -> Descriptor {
    Descriptor(owning: try SystemError.check(unsafe csys_create_for_all(number, name)))
  }

  /// Renames a file in this directory.
  func rename(
    _ old: UnsafePointer<CChar>, to new: UnsafePointer<CChar>
  ) throws(SystemError) {
    try SystemError.check(unsafe csys_rename(number, old, new))
  }

  /// Takes the lock of this directory until the process ends. Throws `wouldBlock` if another process has it.
  func lock() throws(SystemError) { try SystemError.check(csys_lock(number)) }

  /// Waits until what was written is on the disk.
  func sync() throws(SystemError) { try SystemError.check(csys_sync(number)) }

  /// The size of a file in bytes.
  var size: Int {
    get throws(SystemError) {
      let size = csys_size(number)
      guard size >= 0 else { throw SystemError(number: Int32(clamping: -size)) }
      return Int(clamping: size)
    }
  }
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

  /// Removes the file at this path, if there is one.
  func removeFile() { unsafe csys_remove(pointer) }

  /// Checks that something could be made at this path: its directory exists, and we can write to it.
  func checkPlace() throws(SystemError) {
    try SystemError.check(unsafe csys_check_place(pointer))
  }

  /// Checks that a program of this name or path can be run.
  func checkProgram() throws(SystemError) {
    try SystemError.check(unsafe csys_check_program(pointer))
  }
}
