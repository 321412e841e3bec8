import KnockBase
import KnockProtocol

/// A search for the public address of this host: the one that servers beyond NAT see.
///
/// Asks all STUN servers at once, each at up to two of its addresses, and again after 0.5, 1.5 and 3.5 seconds
/// (RFC 8489, section 6.2.1). The first good answer counts.
struct PublicAddressSearch: ~Copyable {
  private static let firstPause = 500 * Microseconds.millisecond
  private static let patience = 5 * Microseconds.second
  /// The most addresses of a server that are asked, so that there is room for the other servers.
  private static let addressesPerServer = 2
  /// No answer is longer (bytes). Source: RFC 8489, section 6.1.
  private static let answerSize = 1280

  private let family: AddressFamily
  private let answer: Storage<UInt8>
  private var queries = InlineArray<8, StunQuery?> { _ in nil }
  private var count = 0

  /// - Parameter source: the local address to ask from, if it matters.
  init(
    _ family: AddressFamily, _ servers: StunServerList, from source: SocketAddress?
  ) throws(SystemError) {
    guard let answer = Storage<UInt8>.mapped(Self.answerSize) else { throw .outOfMemory }
    self.family = family
    self.answer = answer
    for index in 0..<servers.count {
      if let server = servers[index] { add(server, from: source) }
    }
  }

  private mutating func add(_ server: StunServer, from source: SocketAddress?) {
    do throws(Resolution.Failure) {
      let addresses = try Resolution(
        of: server.host, port: server.port, family: family, numeric: false)
      var position = 0
      while position < Self.addressesPerServer, let address = addresses.address(at: position) {
        append(StunQuery(to: server, at: address, from: source))
        position += 1
      }
    } catch {
      append(StunQuery(to: server, failed: error))
    }
  }

  private mutating func append(_ query: consuming StunQuery) {
    guard count < queries.count else { return }
    queries[count] = consume query
    count += 1
  }

  /// The public address; nil if no server tells it in time.
  mutating func run() throws(SystemError) -> Address? {
    let start = SystemClock.monotonic()
    let end = start + Self.patience
    var pause = Self.firstPause
    var nextSend = start
    while true {
      let now = SystemClock.monotonic()
      guard now < end else { return nil }
      if nextSend <= now {
        for index in 0..<count { queries[index]?.send() }
        nextSend += pause
        pause *= 2
      }
      guard try wait(until: min(nextSend, end)) else { return nil }
      for index in 0..<count {
        if let address = queries[index]?.receive(into: answer, family) { return address }
      }
    }
  }

  /// Returns false if no answer can come any more.
  private mutating func wait(until moment: Int64) throws(SystemError) -> Bool {
    var canCome = false
    var set = PollSet()
    for index in 0..<count {
      guard let descriptor = queries[index]?.descriptor, descriptor >= 0 else { continue }
      set.addReader(descriptor)
      canCome = true
    }
    if canCome { try set.wait(until: moment) }
    return canCome
  }

  /// Logs why each server did not tell.
  mutating func logFailures() {
    for index in 0..<count { queries[index]?.logFailure() }
    log.error(
      "no STUN server told our public \(family == .inet ? "IPv4" as StaticString : "IPv6") address")
  }
}
