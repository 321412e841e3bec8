import KnockBase

/// The directory with what a server remembers after a restart. While a value exists, no other server can
/// have the directory.
struct StateDirectory: ~Copyable {
  private let path: Argument
  private let user: UInt32
  /// `Descriptor.none` if the disk did not let it be made or opened.
  private var descriptor = Descriptor.none

  /// - Parameters:
  ///   - user: it may belong to this user, too.
  ///   - onlyChecks: makes and locks nothing.
  /// - Throws: `wouldBlock` if another server has it, and `accessDenied` if others can write to it. Also the errors of
  ///   open(2) and mkdir(2), except those of a disk that is full, read-only or broken.
  init(_ path: Argument, of user: UInt32, onlyChecks: Bool) throws(SystemError) {
    self.path = path
    self.user = user
    do throws(SystemError) {
      descriptor = try Descriptor(privateDirectory: path, of: user, making: !onlyChecks)
    } catch {
      guard error.isOfDisk else { throw error }
      return
    }
    if !onlyChecks { try Self.lock(descriptor) }
  }

  /// Opens it without a lock, to look into it while a server may have it. It may belong to any user.
  init(reading path: Argument) throws(SystemError) {
    self.path = path
    user = 0
    descriptor = try Descriptor(readingState: path)
  }

  /// The process that has its lock. Locks nothing.
  var holder: Descriptor.Holder { get throws(SystemError) { try descriptor.lockHolder } }

  /// If a server was killed while it started a command, the child has the lock until its execve(2).
  private static func lock(_ descriptor: borrowing Descriptor) throws(SystemError) {
    let deadline = SystemClock.monotonic() + Server.linger
    while true {
      do throws(SystemError) {
        return try descriptor.lock()
      } catch {
        // A file system may have no locks.
        guard !error.isOfDisk else { return }
        guard error == .wouldBlock, SystemClock.monotonic() < deadline else {
          throw error
        }
        SystemClock.pause(for: 10 * Microseconds.millisecond)
      }
    }
  }

  /// Opens a file in it to read; nil if there is none.
  func open(_ name: Literal) throws(SystemError) -> Descriptor? {
    guard descriptor.isOpen else { return nil }
    do throws(SystemError) {
      return try descriptor.open(name, making: false)
    } catch {
      guard error == .notFound else { throw error }
      return nil
    }
  }

  /// Opens a file in it to read and write, and makes it if there is none.
  mutating func make(_ name: Literal) throws(SystemError) -> Descriptor {
    if !descriptor.isOpen {
      let new = try Descriptor(privateDirectory: path, of: user, making: true)
      try new.lock()
      descriptor = new
    }
    return try descriptor.open(name, making: true)
  }

  /// Waits until the names of its files are on the disk.
  func sync() throws(SystemError) { try descriptor.sync() }
}
