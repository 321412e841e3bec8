import CSystem
import KnockBase

/// A child of this process: a program that was started, a copy of this process, or an orphan that process 1 got.
struct ChildProcess: Equatable, BitwiseCopyable {
  /// The process ID, greater than 0.
  let number: Int32

  /// How a process has ended.
  enum Ending: Equatable, BitwiseCopyable {
    case exited(status: Int32)
    case killed(Signal)
  }

  private init(number: Int32) { self.number = number }

  /// Starts `words[0]`, which is looked up in PATH. It leads a process group of its own.
  ///
  /// - Parameter words: strings, and NULL after the last. The same for `environment`.
  init(
    starting words: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?,
    environment: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
  ) throws(SystemError) {
    number = try SystemError.check(unsafe csys_spawn(words, environment))
  }

  /// Starts a copy of this process. Returns nil in the copy. Source: fork(2).
  static func fork() throws(SystemError) -> ChildProcess? {
    let number = try SystemError.check(csys_fork())
    return number > 0 ? ChildProcess(number: number) : nil
  }

  /// A child that has ended and waits to be reaped; nil if there is none.
  static func ended() throws(SystemError) -> ChildProcess? {
    let number = try SystemError.check(csys_ended_child())
    return number > 0 ? ChildProcess(number: number) : nil
  }

  /// Whether a signal has stopped it, until another one continues it.
  var isStopped: Bool { csys_is_stopped(number) != 0 }

  /// Takes the exit status of a process that has ended. From then on its number may belong to another one.
  func reap() -> Ending { Self.ending(csys_reap(number)) }

  private static func ending(_ result: Int32) -> Ending {
    result < 0 ? .killed(Signal(number: -result)) : .exited(status: result)
  }

  /// Waits for its end, while signals are held. Passes them on, and stops and continues with it.
  func guardUntilItEnds() -> Ending { Self.ending(csys_guard(number)) }

  /// Sends a signal to it. Returns false if this process may not.
  @discardableResult
  func send(_ signal: Signal) -> Bool { csys_kill(number, signal.number) >= 0 }

  /// Sends a signal to its process group, if that still exists.
  func sendToGroup(_ signal: Signal) { _ = csys_kill(-number, signal.number) }
}
