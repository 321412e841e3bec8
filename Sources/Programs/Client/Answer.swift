import KnockBase
import KnockProtocol

/// What a server has answered, as it is printed.
extension Version2.Answer {
  /// A greater difference of the clocks is told (microseconds).
  private static var clockTolerance: UInt64 { 2 * Microseconds.second.magnitude }

  /// Prints that it was done, or logs why not.
  ///
  /// - Parameters:
  ///   - moment: when the answer came (microseconds since the Unix epoch).
  ///   - isOneOfMany: whether there are other hosts.
  ///   - isPrinted: whether the standard output is ours.
  func report(
    _ purpose: Version2.Purpose, of host: Argument, isOneOfMany: Bool, isPrinted: Bool,
    at moment: Int64
  ) -> ExitCode {
    let address = address ?? .inet6(high: 0, low: 0)
    guard result == Self.done else {
      let (what, advice): (Literal, Literal) =
        switch result {
        case Self.notAllowed: ("not allowed", "the server or the limits of the key forbid it")
        case Self.noRoom: ("no room", "the server is busy; try again")
        default: ("failed", "the log of the server says why")
        }
      let isUnknown = result > Self.noRoom
      log.error(
        "\(quoted: host): \(what) for \(address)\(isUnknown ? " (\(result))" as Message : ""): \(advice)"
      )
      return result == Self.notAllowed ? .refused : .notDone
    }
    guard isPrinted else { return .success }
    return printToStandardOutput { output in
      if isOneOfMany {
        host.withBytes { output.append(escaped: $0) }
        output.append(": ")
      }
      output.append(
        purpose == .open
          ? "open for " : purpose == .close ? "closed for " : "good: would open for ")
      output.append(address)
      if purpose != .close { output.append(end: seconds, after: moment) }
      let difference = (moment - time).magnitude
      if purpose == .check, difference >= Self.clockTolerance {
        output.append("; the clocks differ by ")
        output.append(difference / Microseconds.second.magnitude)
        output.append(" s")
      }
      output.append("\n")
    }
  }
}

extension TextOutput {
  /// ` until 14:05 (1 h)`, in the local time; 0 seconds are without an end.
  fileprivate mutating func append(end seconds: UInt32, after moment: Int64) {
    guard seconds > 0 else { return append(" until it is closed") }
    append(" until ")
    append(
      local: moment + Int64(seconds) * Microseconds.second, withDate: seconds >= 86_400)
    // The two greatest units.
    var rest = seconds
    var count = 0
    for unit in 0..<4 where count < 2 {
      let (size, name): (UInt32, Literal) =
        switch unit {
        case 0: (86_400, " d")
        case 1: (3600, " h")
        case 2: (60, " min")
        default: (1, " s")
        }
      guard rest >= size else { continue }
      append(count == 0 ? " (" : " ")
      append(rest / size)
      append(name)
      rest %= size
      count += 1
    }
    append(")")
  }
}
