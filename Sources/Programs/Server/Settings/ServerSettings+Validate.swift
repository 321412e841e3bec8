import KnockBase
import Netfilter

extension ServerSettings {
  func validate() throws(Misuse) {
    if stateDirectory == nil {
      let needed: Literal = " needs --state"
      if givesAnswers { throw .unsuitable(Option.answer.spec.name, needed) }
      if keysDirectory != nil { throw .unsuitable(Option.keys.spec.name, needed) }
      if closeAfterSeconds != nil { throw .unsuitable(Option.closeAfter.spec.name, needed) }
    }
    if closesOnExit, closeAfterSeconds == nil {
      throw .unsuitable(Option.closeOnExit.spec.name, " needs --close-after")
    }
    try validateExample()
    if firewall.sets == nil, example == nil, firewall.seconds != nil {
      throw .unsuitable(Option.ttl.spec.name, Self.setsNeeded)
    }
    try validatePrefix(.inet)
    try validatePrefix(.inet6)
    if case .ipset = firewall.sets, let seconds = firewall.seconds, seconds > IPSet.maximumSeconds {
      throw .unsuitable(
        Option.ttl.spec.name, ": sets of ipset take at most 2147483 seconds (24 days)")
    }
  }

  private func validateExample() throws(Misuse) {
    guard let hiddenPorts else {
      if example == .docker { throw .unsuitable(Option.example.spec.name, " docker needs --hide") }
      return
    }
    let name = Option.hide.spec.name
    guard example == .nft || example == .docker else {
      throw .unsuitable(name, " needs --example nft or --example docker")
    }
    let ports = PortList(hiddenPorts)
    guard ports.isValid else {
      throw .badValue(
        name, hiddenPorts, accepted: "PORT[/udp],... with ports from 1 to 65535, each named once")
    }
    if ports.contains(Port(number: port, isUDP: true)) {
      throw .unsuitable(name, ": knocks arrive at this UDP port (-p), so it cannot be hidden")
    }
  }

  private static var setsNeeded: Literal { " needs --nft or --ipset" }

  /// Checks that there is a set for the prefix that knocks of a family open.
  func validatePrefix(_ family: AddressFamily) throws(Misuse) {
    guard firewall.grantsPrefixes(for: family) else { return }
    let option = family == .inet ? Option.grantPrefix4 : .grantPrefix6
    if firewall.sets == nil {
      guard example == nil else { return }
      throw .unsuitable(option.spec.name, Self.setsNeeded)
    }
    if !firewall.covers(family) {
      throw .unsuitable(
        option.spec.name, family == .inet ? " needs a set for IPv4" : " needs a set for IPv6")
    }
  }
}

extension ServerSettings {
  /// With fewer knocks an hour a memory that is full is likely.
  private static let fewKnocks: Int64 = 360

  /// Logs a warning if the replay memory has room for few knocks. It holds each for up to twice the drift.
  func logReplayCapacity() {
    let hour = 3600 * Microseconds.second
    let knocks = Int64(replayCapacity) * hour / (2 * drift)
    guard knocks < Self.fewKnocks else { return }
    log.warning(
      """
      warning: with this drift, --replay-capacity has room for \(Self.number(of: knocks)) an \
      hour, and every further one is refused
      """)
  }

  private static func number(of knocks: Int64) -> Message {
    knocks == 0 ? "less than one knock" : "\(knocks) knocks"
  }
}
