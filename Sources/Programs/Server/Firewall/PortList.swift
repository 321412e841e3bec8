import KnockBase

/// A port of TCP or UDP.
struct Port: Equatable {
  let number: UInt16
  let isUDP: Bool
}

/// The value of `--hide`: `PORT[/tcp|/udp],...`. An iterator over its ports, in their order.
struct PortList: IteratorProtocol {
  private let text: Argument
  private var position = 0

  init(_ text: Argument) { self.text = text }

  /// Nil at the end, and at what is no port.
  @inline(never)
  mutating func next() -> Port? {
    let position = position
    guard position <= text.count else { return nil }
    var end = 0
    let port = text.withBytes { text -> Port? in
      end = text.firstIndex(of: UInt8(ascii: ","), from: position) ?? text.count
      let item = text.extracting(position..<end)
      let slash = item.firstIndex(of: UInt8(ascii: "/")) ?? item.count
      let transport = item.extracting(slash...)
      let isUDP = transport.equals("/udp")
      guard isUDP || transport.isEmpty || transport.equals("/tcp") else { return nil }
      return Numbers.port(item.extracting(first: slash)).map { Port(number: $0, isUDP: isUDP) }
    }
    if port != nil { self.position = end + 1 }
    return port
  }

  /// Whether it names ports only, and each once.
  var isValid: Bool {
    var rest = self
    while let port = rest.next() {
      var later = rest
      while let other = later.next() {
        if other == port { return false }
      }
    }
    return rest.position > text.count
  }

  @inline(never)
  func contains(_ port: Port) -> Bool {
    var rest = self
    while let next = rest.next() {
      if next == port { return true }
    }
    return false
  }
}
