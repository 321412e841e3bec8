import KnockBase

/// Reads the values of options.
extension Argument {
  var portNumber: UInt16? { withBytes { Numbers.port($0) } }

  /// A port, as the original accepts it.
  func port(for option: OptionSpec) throws(Misuse) -> UInt16 {
    guard let port = portNumber else {
      throw .badValue(option.name, self, accepted: "a port number from 1 to 65535")
    }
    return port
  }

  /// A whole number in a range, which `accepted` describes.
  func number(
    from first: Int64, to last: Int64, for option: OptionSpec, accepted: Literal
  ) throws(Misuse) -> Int {
    guard let number = withBytes({ Numbers.integer($0) }), number >= first, number <= last else {
      throw .badValue(option.name, self, accepted: accepted)
    }
    return Int(number)
  }

  static var acceptedDurations: Literal { "a duration such as 90, 15m, 2h or 1d, at most 366 days" }

  /// A duration in seconds.
  func duration(for option: OptionSpec) throws(Misuse) -> Int64 {
    guard let seconds = withBytes({ Numbers.duration($0) }) else {
      throw .badValue(option.name, self, accepted: Self.acceptedDurations)
    }
    return seconds
  }

  /// Warns if it is an old form of IPv4, in which people may read another address. The address is shown, so there is
  /// no use in hiding the argument.
  func logOldForm(_ name: Literal) {
    guard let address = Address(oldForm: self) else { return }
    log.warning("warning: \(name) \(quoted: self) is read as \(address)")
  }
}
