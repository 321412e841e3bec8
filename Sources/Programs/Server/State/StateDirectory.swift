import KnockBase

/// The directory in which a server keeps what must outlive it. While a value exists no other server
/// can have the directory.
struct StateDirectory: ~Copyable {
  let path: Argument
  private let descriptor: Descriptor

  /// - Parameter onlyChecks: whether to make and lock nothing.
  /// - Throws: `wouldBlock` if another server has it, `accessDenied` if others can write to it, and what open(2) and
  ///   mkdir(2) say.
  init(_ path: Argument, onlyChecks: Bool) throws(SystemError) {
    let descriptor = try Descriptor(privateDirectory: path, making: !onlyChecks)
    if !onlyChecks { try Self.lock(descriptor) }
    self.path = path
    self.descriptor = descriptor
  }

  /// If a server is killed while it starts a command, that process has the lock until it is another program.
  private static func lock(_ descriptor: borrowing Descriptor) throws(SystemError) {
    let deadline = SystemClock.monotonicMilliseconds() + Server.lingerMilliseconds
    while true {
      do throws(SystemError) {
        return try descriptor.lock()
      } catch {
        guard error == .wouldBlock, SystemClock.monotonicMilliseconds() < deadline else {
          throw error
        }
        SystemClock.pause(milliseconds: 10)
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
