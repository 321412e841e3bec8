import KnockBase

/// How the server ends the program. What it has taken is left to the kernel: to give that back at each step of the
/// start would be a tenth of the program.
extension CurrentProcess {
  /// Ends the program when its log is written.
  @inline(never)
  static func exit(_ code: ExitCode) -> Never {
    log.end()
    while true { end(status: code.rawValue) }
  }

  /// Logs why the program ends, and ends it.
  @inline(never)
  static func exit(_ message: Message) -> Never {
    log.error(message)
    exit(.failure)
  }

  @inline(never)
  static func exitFatally(_ error: SystemError) -> Never { exit("fatal: \(error)") }

  /// What `body` returns. If it throws, logs why and ends the program.
  ///
  /// Each call stands in a function of its own that is not inlined. If a step can fail, the compiler writes code that
  /// ends all values of the steps before.
  @inline(__always)
  static func orExit<Result: ~Copyable>(_ body: () throws(SystemError) -> Result) -> Result {
    do throws(SystemError) {
      return try body()
    } catch { exitFatally(error) }
  }

  /// The same. The message begins with what the call was for.
  @inline(__always)
  static func orExit<Result: ~Copyable>(
    _ what: Literal, _ body: () throws(SystemError) -> Result
  ) -> Result {
    do throws(SystemError) {
      return try body()
    } catch { exit("\(what): \(error)") }
  }
}
