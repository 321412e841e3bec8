/// How the server ends the program. What it has taken is left to the kernel: to give that back at each step of the
/// start would be a tenth of the program.
extension CurrentProcess {
  /// Ends the program when its log is written.
  @inline(never)
  static func exit(_ code: ExitCode) -> Never {
    log.end()
    while true { end(status: code.rawValue) }
  }

  /// What `body` returns. If it throws, logs why and ends the program.
  @inline(__always)
  static func orExit<Result: ~Copyable>(_ body: () throws(SystemError) -> Result) -> Result {
    do throws(SystemError) {
      return try body()
    } catch { exitFatally(error) }
  }

  @inline(never)
  static func exitFatally(_ error: SystemError) -> Never {
    log.error("fatal: \(error)")
    exit(.failure)
  }
}
