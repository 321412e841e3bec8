import KnockBase

/// A STUN server to ask.
struct StunServer {
  static var accepted: Literal { "HOST, HOST:PORT or [ADDRESS]:PORT" }
  /// Source: RFC 8489, section 18.6.
  private static let standardPort: UInt16 = 3478

  let host: Argument
  /// The port, and above it whether client.conf names the server. Without padding, a list is copied in a few steps.
  private let details: UInt64

  var port: UInt16 { UInt16(truncatingIfNeeded: details) }
  /// Whether the name cannot be the key.
  private var isConfigured: Bool { details >> 16 != 0 }

  /// Nil if the text is no `Endpoint`. It may be a URI such as `stun:HOST:PORT`. Source: RFC 7064.
  init?(_ text: Argument, isConfigured: Bool) {
    let scheme: Literal = "stun:"
    let isURI = text.withBytes { text in
      text.hasPrefix(scheme) && Numbers.port(text.extracting(scheme.count...)) == nil
    }
    let text = isURI ? unsafe Argument(text.pointer + scheme.count) : text
    guard let endpoint = text.withBytes({ Endpoint($0) }),
      let memory = Storage<UInt8>.mapped(endpoint.host.count + 1)
    else { return nil }
    var name = StorageText(memory)
    text.withBytes { name.append($0.extracting(endpoint.host)) }
    guard let start = unsafe name.start else { return nil }
    host = unsafe Argument(start)
    let isNumeric = host.withBytes { $0.firstIndex(of: UInt8(ascii: ":")) != nil }
    guard isNumeric ? SocketAddress(numeric: host) != nil : host.hostRefusal == nil,
      Address(oldForm: host) == nil
    else { return nil }
    details = UInt64(endpoint.port ?? Self.standardPort) | (isConfigured ? 1 << 16 : 0)
  }
}

extension StunServer: MessageConvertible {
  @inline(never)
  var message: Message {
    !isConfigured && log.showsArguments ? "STUN server \(quoted: host)" : "STUN server"
  }
}

/// A few servers.
struct StunServerList {
  private var items = InlineArray<4, StunServer?>(repeating: nil)
  private(set) var count = 0

  subscript(index: Int) -> StunServer? { items[index] }

  @inline(never)
  func isSame(as other: StunServerList) -> Bool {
    guard count == other.count else { return false }
    for index in 0..<count {
      guard let one = items[index], let another = other[index], one.port == another.port,
        one.host == another.host
      else { return false }
    }
    return true
  }

  /// Returns false if there is no room.
  mutating func append(_ server: StunServer) -> Bool {
    guard count < items.count else { return false }
    items[count] = server
    count += 1
    return true
  }
}
