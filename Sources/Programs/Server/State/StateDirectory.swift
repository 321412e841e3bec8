import KnockBase

/// The directory with what a server remembers after a restart. While a value exists, no other server can
/// have the directory.
struct StateDirectory: ~Copyable {
  private let descriptor: Descriptor

  /// - Parameter onlyChecks: makes and locks nothing.
  /// - Throws: `wouldBlock` if another server has it, `accessDenied` if others can write to it, and the errors
  ///   of open(2) and mkdir(2).
  init(_ path: Argument, onlyChecks: Bool) throws(SystemError) {
    let descriptor = try Descriptor(privateDirectory: path, making: !onlyChecks)
    if !onlyChecks { try Self.lock(descriptor) }
    self.descriptor = descriptor
  }

  /// If a server was killed while it started a command, the child has the lock until its execve(2).
  private static func lock(_ descriptor: borrowing Descriptor) throws(SystemError) {
    let deadline = SystemClock.monotonic() + Server.linger
    while true {
      do throws(SystemError) {
        return try descriptor.lock()
      } catch {
        guard error == .wouldBlock, SystemClock.monotonic() < deadline else {
          throw error
        }
        SystemClock.pause(for: 10 * Microseconds.millisecond)
      }
    }
  }

  /// Opens a file in it; nil if there is none.
  func open(_ name: StaticString) throws(SystemError) -> Descriptor? {
    do throws(SystemError) {
      return try descriptor.open(name, making: false)
    } catch {
      guard error == .notFound else { throw error }
      return nil
    }
  }

  /// Makes an empty file in it, or empties an old one.
  func make(_ name: StaticString) throws(SystemError) -> Descriptor {
    try descriptor.open(name, making: true)
  }

  func rename(_ old: StaticString, to new: StaticString) throws(SystemError) {
    try unsafe descriptor.rename(old.cString, to: new.cString)
    do throws(SystemError) { try descriptor.sync() } catch {}
  }
}
