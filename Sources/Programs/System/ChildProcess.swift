import CSystem

/// A program that this process has started, or that has been left to it by one that has ended.
@safe struct ChildProcess: Equatable {
  /// The process ID, greater than 0.
  let number: Int32

  /// How a process has ended.
  enum Ending: Equatable {
    case exited(status: Int32)
    case killed(signal: Int32)
  }

  /// Starts `words[0]`, which is looked for in PATH. It has the default actions for signals.
  ///
  /// - Parameters:
  ///   - words: strings, and NULL after the last. The same for `environment`.
  ///   - inOwnGroup: whether it leads a process group of its own.
  init(
    starting words: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
    environment: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
    signalMask: sigset_t, inOwnGroup: Bool
  ) throws(SystemError) {
    let result = unsafe withUnsafePointer(to: signalMask) {
      unsafe csys_spawn(words, environment, $0, inOwnGroup ? 1 : 0)
    }
    number = try SystemError.check(result)
  }

  private init(number: Int32) { self.number = number }

  /// Copies this process. Returns the copy, and nil in the copy itself. Source: fork(2).
  static func fork() throws(SystemError) -> ChildProcess? {
    let number = try SystemError.check(csys_fork())
    return number > 0 ? ChildProcess(number: number) : nil
  }

  /// A child that has ended and waits to be reaped; nil if there is none.
  static func ended() throws(SystemError) -> ChildProcess? {
    let number = try SystemError.check(csys_ended_child())
    return number > 0 ? ChildProcess(number: number) : nil
  }

  /// Takes the exit status of a process that has ended. Its number may belong to another one from then on.
  func reap() -> Ending {
    let result = csys_reap(number)
    return result < 0 ? .killed(signal: -result) : .exited(status: result)
  }

  /// Sends a signal to it. Returns false if this process may not.
  @discardableResult
  func send(_ signal: Int32) -> Bool { csys_kill(number, signal) >= 0 }

  /// Sends a signal to all of its process group.
  func sendToGroup(_ signal: Int32) { _ = csys_kill(-number, signal) }
}
